{{- /* What the pods of operator and limiter have in common. */}}

{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "sluice.scheduling" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := index $root.Values $component }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "sluice.selector" (list $root $component) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{- define "sluice.podMetadata" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := index $root.Values $component }}
labels:
  {{- include "sluice.labels" . | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Environment of both. Everything that is secret comes from a Secret or a file. */}}
{{- define "sluice.env" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := index $root.Values $component }}
{{- $redis := $root.Values.redis }}
- name: SLUICE_REDIS_URL
{{- if $redis.existingSecret.name }}
  {{- $limiterKey := eq $component "limiter" | ternary $redis.existingSecret.limiterKey "" }}
  valueFrom: { secretKeyRef: { name: {{ $redis.existingSecret.name }}, key: {{ $limiterKey | default $redis.existingSecret.key | quote }} } }
{{- else if $redis.development.enabled }}
  value: redis://{{ include "sluice.fullname" $root }}-redis:6379
{{- else }}
  value: {{ $redis.url | quote }}
{{- end }}
- name: SLUICE_INSTALLATION
  value: {{ $root.Values.installation | quote }}
- name: SLUICE_OWNER
  value: {{ $root.Values.owner | default (printf "%s/%s" $root.Release.Namespace (include "sluice.fullname" $root)) | quote }}
- name: SLUICE_POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: SLUICE_LOG_LEVEL
  value: {{ $values.logLevel }}
{{- if $redis.caSecret.name }}
- name: NODE_EXTRA_CA_CERTS
  value: /etc/sluice/redis-ca/{{ $redis.caSecret.key }}
{{- end }}
{{- end }}

{{- define "sluice.volumeMounts" -}}
{{- if .Values.redis.caSecret.name }}
- { name: redis-ca, mountPath: /etc/sluice/redis-ca, readOnly: true }
{{- end }}
- { name: scratch, mountPath: /tmp }
{{- end }}

{{- define "sluice.volumes" -}}
{{- with .Values.redis.caSecret.name }}
- name: redis-ca
  secret: { secretName: {{ . }}, defaultMode: 0444 }
{{- end }}
- name: scratch
  emptyDir: { sizeLimit: 64Mi }
{{- end }}
