package consulimport_test

import (
	"regexp"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/consulimport"
)

func TestServiceName(t *testing.T) {
	long := strings.Repeat("a", 62)
	tests := []struct{ template, consul, want string }{
		{"", "web", "web"},
		{"{service}", "Web_API.v2", "web-api-v2"},
		{"consul-{service}", "web", "consul-web"},
		{"{service}-{service}", "a", "a-a"},
		{"db", "postgres", "db"},
		{"{service}", "-web_", "web"},
		{"x-{service}", "_web", "x--web"},
		{"{service}", "3scale", "svc-3scale"},
		{"x{service}", "3scale", "x3scale"},
		{"{service}", "über", "ber"},
		{"{service}", long + "a", long + "a"},
		{"{service}", long + "aa", long[:54] + "-6412863c"},
		{"{service}", long + "ab", long[:54] + "-67128af5"},
	}
	for _, tt := range tests {
		if got, problem := consulimport.ServiceName(tt.template, tt.consul); got != tt.want || problem != "" {
			t.Errorf("%q of %q is %q (%s), want %q", tt.template, tt.consul, got, problem, tt.want)
		}
	}
	for _, tt := range tests[:1] {
		for _, consul := range []string{"", "---", "日本"} {
			if name, problem := consulimport.ServiceName(tt.template, consul); name != "" || problem == "" {
				t.Errorf("%q is %q", consul, name)
			}
		}
	}
}

// Every name can be that of a Service, the same each time; two long names with
// another end are two.
func FuzzServiceName(f *testing.F) {
	for _, consul := range []string{"web", "Web_API", "3scale", "-", "", "日本", strings.Repeat("x", 300)} {
		f.Add("{service}", consul)
		f.Add("a-{service}-{service}", consul)
		f.Add("-", consul)
		f.Add("{service", consul)
	}
	valid := regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, template, consul string) {
		name, problem := consulimport.ServiceName(template, consul)
		if (problem == "") != valid.MatchString(name) {
			t.Fatalf("%q of %q is %q, problem %q", template, consul, name, problem)
		}
		if again, _ := consulimport.ServiceName(template, consul); again != name {
			t.Fatalf("%q, then %q", name, again)
		}
		if valid.MatchString(consul) && (template == "" || template == consulimport.Placeholder) && name != consul {
			t.Fatalf("%q is called %q although it need not be", consul, name)
		}
		other := consul + "x"
		if second, problem := consulimport.ServiceName(consulimport.Placeholder, other); problem == "" && len(consul) > 64 {
			if first, problem := consulimport.ServiceName(consulimport.Placeholder, consul); problem == "" && first == second {
				t.Fatalf("%q and %q are both %q", consul, other, first)
			}
		}
	})
}
