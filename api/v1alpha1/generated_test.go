package v1alpha1_test

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/api/v1alpha1"
)

// What `make generate` writes is in the repository. These tests find out when it
// was not run, without the program that writes it.

const crd = "../../deploy/chart/files/crds/fairway.dev_consulimports.yaml"

// schema is what the tests look at of a field's schema.
type schema struct {
	Description string
	Type        string
	Properties  map[string]schema
	Required    []string
	Items       *schema
	Validations []any `json:"x-kubernetes-validations"`
}

// The schema has the fields that the types have, and says of each what its
// comment says.
func TestSchemaIsThatOfTheTypes(t *testing.T) {
	text, err := os.ReadFile(crd)
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct{ OpenAPIV3Schema schema }
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	root := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	for _, part := range []struct {
		name string
		of   reflect.Type
	}{
		{"spec", reflect.TypeFor[v1alpha1.ConsulImportSpec]()},
		{"status", reflect.TypeFor[v1alpha1.ConsulImportStatus]()},
	} {
		sameFields(t, part.name, root.Properties[part.name], part.of)
	}
	source, err := os.ReadFile("consulimport.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := strings.Count(string(source), "XValidation:rule=")
	if n := root.rules(); n != rules {
		t.Errorf("the schema has %d rules, the types have %d: run make generate", n, rules)
	}
	comments := strings.Join(strings.Fields(strings.ReplaceAll(string(source), "//", " ")), " ")
	for _, description := range append(root.Properties["spec"].descriptions(), root.Properties["status"].descriptions()...) {
		if !strings.Contains(comments, description) && !ofAnotherPackage(description) {
			t.Errorf("no comment says %q: run make generate", description)
		}
	}
}

// sameFields fails for each field that only one of schema and type has.
func sameFields(t *testing.T, path string, have schema, of reflect.Type) {
	t.Helper()
	for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
		of = of.Elem()
		if have.Items != nil {
			have = *have.Items
		}
	}
	if of.Kind() != reflect.Struct || of == reflect.TypeFor[metav1.Time]() {
		return
	}
	var names, required []string
	for field := range of.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
		sameFields(t, path+"."+name, have.Properties[name], field.Type)
	}
	slices.Sort(names)
	slices.Sort(required)
	if got := slices.Sorted(maps.Keys(have.Properties)); !slices.Equal(got, names) {
		t.Errorf("%s: the schema has the fields %v, the type %v: run make generate", path, got, names)
	}
	if got := slices.Sorted(slices.Values(have.Required)); !slices.Equal(got, required) {
		t.Errorf("%s: the schema requires %v, the type %v: run make generate", path, got, required)
	}
}

func (s schema) parts() []schema {
	parts := slices.Collect(maps.Values(s.Properties))
	if s.Items != nil {
		parts = append(parts, *s.Items)
	}
	return parts
}

func (s schema) rules() int {
	n := len(s.Validations)
	for _, part := range s.parts() {
		n += part.rules()
	}
	return n
}

func (s schema) descriptions() []string {
	var all []string
	if s.Description != "" {
		all = append(all, strings.Join(strings.Fields(s.Description), " "))
	}
	for _, part := range s.parts() {
		all = append(all, part.descriptions()...)
	}
	return all
}

// ofAnotherPackage tells whether a description is that of metav1.Condition.
func ofAnotherPackage(description string) bool {
	for _, begin := range []string{"Condition contains", "lastTransitionTime is", "message is a human", "observedGeneration represents",
		"reason contains", "status of the condition", "type of condition"} {
		if strings.HasPrefix(description, begin) {
			return true
		}
	}
	return false
}

// A deep copy is equal and shares nothing: what is new in a type is in its copy.
func TestDeepCopiesAreDeep(t *testing.T) {
	for _, object := range []runtime.Object{&v1alpha1.ConsulImport{}, &v1alpha1.ConsulImportList{}} {
		value := reflect.ValueOf(object).Elem()
		fill(value)
		copied := reflect.ValueOf(object.DeepCopyObject()).Elem()
		if !reflect.DeepEqual(value.Interface(), copied.Interface()) {
			t.Errorf("%T: the copy differs: run make generate", object)
		}
		shared(t, value.Type().Name(), value, copied)
	}
}

// fill gives every slice, map and pointer a content.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[metav1.Time]() {
			return
		}
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(field)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	}
}

func shared(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Slice, reflect.Map, reflect.Pointer:
		if a.IsNil() {
			return
		}
		if a.Pointer() == b.Pointer() && a.Type() != reflect.TypeFor[*metav1.Time]() {
			t.Errorf("%s is shared with the copy: run make generate", path)
		}
		if a.Kind() == reflect.Slice {
			shared(t, path, a.Index(0), b.Index(0))
		}
	}
}

// A client that was told of the group knows its kinds.
func TestTheSchemeKnowsTheKinds(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ConsulImport", "ConsulImportList"} {
		if !scheme.Recognizes(v1alpha1.GroupVersion().WithKind(kind)) {
			t.Errorf("%s is not known", kind)
		}
	}
}
