{{/* A value as a CEL literal. CEL's lists and maps hold one type only, hence
dyn. */}}
{{- define "fairway.cel" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ toJson $key }}: dyn({{ include "fairway.cel" (get $ $key) }}){{ end -}} }
{{- else if kindIs "slice" . -}}
[ {{- range $i, $item := . }}{{ if $i }}, {{ end }}dyn({{ include "fairway.cel" $item }}){{ end -}} ]
{{- else if or (kindIs "string" .) (kindIs "bool" .) -}}
{{ toJson . }}
{{- else -}}
{{ int64 . }}
{{- end }}
{{- end }}

{{/* CEL: a piece of the user's text as messages show it, shortened if long. */}}
{{- define "fairway.cel.quote" -}}
(strings.quote({{ . }}.substring(0, {{ . }}.size() > 64 ? 64 : {{ . }}.size())) + ({{ . }}.size() > 64 ? '...' : ''))
{{- end }}

{{/* CEL: the items of a list annotation, trimmed; the argument is its value,
trimmed. Only an empty value has none. */}}
{{- define "fairway.cel.items" -}}
({{ . }} == '' ? [] : {{ . }}.split(',').map(item, item.trim()))
{{- end }}

{{/* CEL: the pod in an object, or the template of its pods. */}}
{{- define "fairway.cel.pod" -}}
({{ . }}.kind == 'Pod' ? {{ . }} : {{ . }}.kind == 'CronJob' ? {{ . }}.spec.jobTemplate.spec.template : {{ . }}.spec.template)
{{- end }}

{{/* CEL: all of a pod that decides whether its annotations can be understood:
Fairway's annotations and katalog-sync's, and the ports of the containers, then
those of native sidecars, as internal/kube reads them. */}}
{{- define "fairway.cel.declared" -}}
{
  'annotations': dyn({{ . }}.?metadata.?annotations.orValue({}).transformMap(key, value,
    key.startsWith('fairway.dev/') || key.startsWith('katalog-sync.wish.com/'), value)),
  'ports': dyn(({{ . }}.?spec.?containers.orValue([]) + {{ . }}.?spec.?initContainers.orValue([])
    .filter(c, c.?restartPolicy.orValue('') == 'Always'))
    .map(c, c.?ports.orValue([])).flatten())
}
{{- end }}
