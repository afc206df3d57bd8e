{{/* The labels that select the agent's pods. They can never change. */}}
{{- define "fairway.selectorLabels" -}}
app.kubernetes.io/name: fairway
app.kubernetes.io/component: agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "fairway.labels" -}}
{{ include "fairway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
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
