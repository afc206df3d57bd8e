{{/*
What `fairway.dev/inject: drain` adds to a pod, in YAML as it would stand in a
manifest. These three must agree with each other and with cmd/fairway-gate, and
pass Pod Security "restricted"; a Windows pod and one on the node's own network
never get them.
*/}}

{{/* The native sidecar. It declares no port: a service without service-port
gets the first port that the pod declares. Requests equal limits, so that a pod
of QoS class Guaranteed stays one. */}}
{{- define "fairway.gate.container" -}}
name: fairway-gate
image: {{ include "fairway.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
restartPolicy: Always
command: [/usr/bin/fairway-gate]
env:
  - name: HOST_IP
    valueFrom:
      fieldRef:
        fieldPath: status.hostIP
volumeMounts:
  - name: fairway-gate-token
    mountPath: /var/run/secrets/fairway
    readOnly: true
resources:
  requests: {cpu: 50m, memory: 32Mi}
  limits: {cpu: 50m, memory: 32Mi}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* The token by which the agent knows the pod. */}}
{{- define "fairway.gate.volume" -}}
name: fairway-gate-token
projected:
  sources:
    - serviceAccountToken:
        audience: fairway
        expirationSeconds: 3600
        path: token
{{- end }}

{{/* The preStop hook of the app's containers. */}}
{{- define "fairway.gate.preStop" -}}
httpGet:
  path: /drain
  port: 9982
{{- end }}
