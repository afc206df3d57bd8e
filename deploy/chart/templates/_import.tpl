{{/* The controller's flags for imports. */}}
{{- define "fairway.importArgs" -}}
{{- with .Values.controller.import }}
{{- if .enabled -}}
- --import
- --import-connections={{ .connections }}
- --import-max-loss-share={{ .maxLossShare }}
{{- with .namespaces }}
- --import-namespaces={{ join "," . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
