package main

import (
	"io"
	"net/http"
	"time"
)

// callTimeout bounds a call, the look-up of its name included.
const callTimeout = 5 * time.Second

// serveCall calls another app as this one would, by its own resolver, and passes
// the answer on. Each call looks the name up anew, on a connection of its own.
func serveCall(w http.ResponseWriter, r *http.Request) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, r.FormValue("url"), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	client := http.Client{Timeout: callTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}
