// Package katalogsync is katalog-sync's protocol between a sidecar and its
// daemon. All but this file is generated from katalogsync.proto by
// `make generate`.
package katalogsync
