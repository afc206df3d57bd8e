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

{{/* CEL: what is wrong with item i of a list if it is empty. */}}
{{- define "fairway.cel.emptyItem" -}}
'item %d of the list is empty: remove the extra comma'.format([i + 1])
{{- end }}

{{/* CEL: whether a text is a number from 0 to 65535 in plain digits. */}}
{{- define "fairway.cel.uint16" -}}
({{ . }}.matches('^0*[0-9]{1,5}$') && int({{ . }}) <= 65535)
{{- end }}

{{/* CEL: the pod in an object, or the template of its pods. */}}
{{- define "fairway.cel.pod" -}}
({{ . }}.kind == 'Pod' ? {{ . }} : {{ . }}.kind == 'CronJob' ? {{ . }}.spec.jobTemplate.spec.template : {{ . }}.spec.template)
{{- end }}

{{/* CEL: the containers that run as long as the pod, as internal/kube has them:
the regular ones, then native sidecars. */}}
{{- define "fairway.cel.lasting" -}}
({{ . }}.?spec.?containers.orValue([]) + {{ . }}.?spec.?initContainers.orValue([])
    .filter(c, c.?restartPolicy.orValue('') == 'Always'))
{{- end }}

{{/* CEL: all of a pod that decides whether its annotations can be understood:
Fairway's annotations and katalog-sync's, the ports of the containers, and their
names. A template has no names: what will be put into its pods (a mesh's proxy,
Fairway's sidecar) is not there yet, and is what annotations are apt to name. */}}
{{- define "fairway.cel.declared" -}}
{
  'annotations': dyn({{ . }}.?metadata.?annotations.orValue({}).transformMap(key, value,
    key.startsWith('fairway.dev/') || key.startsWith('katalog-sync.wish.com/'), value)),
  'ports': dyn({{ include "fairway.cel.lasting" . }}.map(c, c.?ports.orValue([])).flatten()),
  'containers': dyn({{ . }}.?kind.orValue('') == 'Pod' ? {{ include "fairway.cel.lasting" . }}.map(c, c.name) : [])
}
{{- end }}
