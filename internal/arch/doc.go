// Package arch holds tests about the repository itself: what the core may
// import, that documentation and code name the same things, and the habits of
// the house. A rule that is not tested here is advice.
package arch
