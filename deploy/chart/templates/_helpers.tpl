{{/* The labels that select the agent's pods. They can never change. */}}
{{- define "fairway.selectorLabels" -}}
app.kubernetes.io/name: fairway
app.kubernetes.io/component: agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels that select the controller's pods. They can never change. */}}
{{- define "fairway.controllerSelectorLabels" -}}
app.kubernetes.io/name: fairway
app.kubernetes.io/component: controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object, but for the controller's. */}}
{{- define "fairway.labels" -}}
{{ include "fairway.selectorLabels" . }}
{{ include "fairway.releaseLabels" . }}
{{- end }}

{{/* The labels of the controller's objects. */}}
{{- define "fairway.controllerLabels" -}}
{{ include "fairway.controllerSelectorLabels" . }}
{{ include "fairway.releaseLabels" . }}
{{- end }}

{{- define "fairway.releaseLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Consul's address, or a message that says what is missing and why. */}}
{{- define "fairway.consulAddress" -}}
{{- if and .Values.katalogSync (eq .Values.registry "catalog") }}
{{- fail (printf "katalogSync=%s needs registry=agent: katalog-sync registers with the nodes' Consul client agents" .Values.katalogSync) }}
{{- end }}
{{- if and (eq .Values.registry "catalog") (contains "//127.0.0.1:" .Values.consul.address) }}
{{- fail "consul.address is required with registry=catalog: the Consul servers, for example --set consul.address=http://consul-server.consul.svc:8500. Nodes without Consul client agent have nothing at their loopback." }}
{{- end }}
{{- .Values.consul.address }}
{{- end }}

{{/* The auth method that gives the token, if it is not given twice. */}}
{{- define "fairway.authMethod" -}}
{{- if and .Values.consul.login.authMethod .Values.consul.tokenSecret.name }}
{{- fail "consul.login.authMethod and consul.tokenSecret.name: only one can give the token." }}
{{- end }}
{{- .Values.consul.login.authMethod }}
{{- end }}

{{/* Not empty if the agent reads the kubelet's socket, which only root may. */}}
{{- define "fairway.podsAPI" -}}
{{- if has .Values.podSource (list "auto" "podsapi") }}true{{ end }}
{{- end }}

{{/* The cluster's id, or a message that says what is missing and why. */}}
{{- define "fairway.clusterID" -}}
{{- if not .Values.clusterID }}
{{- fail "clusterID is required: name this cluster, for example --set clusterID=prod-eu-1. Every entry in Consul carries the name, so no two clusters on one Consul may share it." }}
{{- end }}
{{- .Values.clusterID }}
{{- end }}

{{/* The image of every container of Fairway. */}}
{{- define "fairway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Not empty if the controller is installed. */}}
{{- define "fairway.controller" -}}
{{- $wanted := or (eq .Values.registry "catalog") .Values.controller.export.enabled .Values.controller.import.enabled }}
{{- if or (eq (toString .Values.controller.enabled) "true") (and (eq (toString .Values.controller.enabled) "auto") $wanted) }}true{{ end }}
{{- end }}

{{/* Not empty if the controller minds the cluster's nodes: where they need it, and
     where there is nothing else for which it was installed. */}}
{{- define "fairway.controllerNodes" -}}
{{- if or (eq .Values.registry "catalog") (not (or .Values.controller.export.enabled .Values.controller.import.enabled)) }}true{{ end }}
{{- end }}

{{/* The controller's flags for what it publishes. */}}
{{- define "fairway.exportArgs" -}}
{{- with .Values.controller.export }}
- --export
- --export-all={{ .all }}
- --export-namespaces={{ join "," .namespaces }}
- --export-except-namespaces={{ join "," .exceptNamespaces }}
- {{ printf "--export-selector=%s" .selector | quote }}
- {{ printf "--export-namespace-selector=%s" .namespaceSelector | quote }}
- {{ printf "--export-name=%s" .name | quote }}
- --export-load-balancer={{ .loadBalancer }}
- --export-node-port={{ .nodePort }}
- --export-cluster-ip={{ .clusterIP }}
- --export-headless={{ .headless }}
- --export-external-name={{ .externalName }}
- --export-node-address={{ .nodeAddress }}
- --export-external-ips={{ .externalIPs }}
- --export-ingress={{ .ingress }}
- --export-gateway={{ .gateway }}
- --max-removal-share={{ .maxRemovalShare }}
{{- end }}
{{- end }}

{{/* Not empty if the controller imports services. */}}
{{- define "fairway.import" -}}
{{- if and (include "fairway.controller" .) .Values.controller.import.enabled }}true{{ end }}
{{- end }}

{{/* The Consul servers for the controller, or a message that says what is missing. */}}
{{- define "fairway.controllerConsulAddress" -}}
{{- $address := .Values.controller.consulAddress | default (include "fairway.consulAddress" .) }}
{{- if contains "//127.0.0.1:" $address }}
{{- fail "controller.consulAddress is required with registry=agent: the Consul servers, for example --set controller.consulAddress=http://consul-server.consul.svc:8500. The controller's pods are not on the nodes' network." }}
{{- end }}
{{- $address }}
{{- end }}
