package cluster

// What the tests of labs that run Fairway share with those inside the package: they cannot be inside,
// because package workload imports this one.
var (
	Eventually  = eventually
	NothingLeft = nothingLeft
	Get         = get
)
