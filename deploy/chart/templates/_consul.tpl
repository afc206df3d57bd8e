{{/*
How Consul is reached, alike for all that speak to it. Each takes a dict: root,
and secret, the tokenSecret of its token.
*/}}
{{- define "fairway.consulArgs" -}}
{{- if .root.Values.consul.login.authMethod -}}
- --consul-auth-method={{ include "fairway.authMethod" .root }}
- --consul-bearer-token-file=/run/fairway/consul-login/token
{{- else if .secret.name -}}
- --consul-token-file=/run/fairway/consul-token/{{ .secret.key }}
{{- end }}
{{- if .root.Values.consul.caConfigMap.name }}
- --consul-ca-file=/run/fairway/consul-ca/{{ .root.Values.consul.caConfigMap.key }}
{{- end }}
{{- end }}

{{- define "fairway.consulMounts" -}}
{{- if .root.Values.consul.login.authMethod -}}
- name: consul-login
  mountPath: /run/fairway/consul-login
  readOnly: true
{{- else if .secret.name -}}
- name: consul-token
  mountPath: /run/fairway/consul-token
  readOnly: true
{{- end }}
{{- if .root.Values.consul.caConfigMap.name }}
- name: consul-ca
  mountPath: /run/fairway/consul-ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "fairway.consulVolumes" -}}
{{- if .root.Values.consul.login.authMethod -}}
- name: consul-login
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
          {{- with .root.Values.consul.login.audience }}
          audience: {{ . }}
          {{- end }}
{{- else if .secret.name -}}
- name: consul-token
  secret:
    secretName: {{ .secret.name }}
    defaultMode: 0440
    items:
      - key: {{ .secret.key }}
        path: {{ .secret.key }}
{{- end }}
{{- with .root.Values.consul.caConfigMap }}
{{- if .name }}
- name: consul-ca
  configMap:
    name: {{ .name }}
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- end }}
{{- end }}
