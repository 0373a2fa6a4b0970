{{- /* Names and labels. */}}

{{- define "sluice.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* What selects the pods of a component: (list . "limiter"). Never changes, as Deployments refuse that. */}}
{{- define "sluice.selector" -}}
{{- $root := index . 0 }}
app.kubernetes.io/name: {{ $root.Values.nameOverride | default $root.Chart.Name | trunc 63 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "sluice.labels" -}}
{{- $root := index . 0 }}
{{- include "sluice.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sluice
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sluice.serviceAccount" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}
{{- (index $root.Values $component).serviceAccount.name | default (printf "%s-%s" (include "sluice.fullname" $root) $component) }}
{{- end }}

{{- define "sluice.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "sluice.pepperSecret" -}}
{{- .Values.pepper.existingSecret | default (printf "%s-pepper" (include "sluice.fullname" .)) }}
{{- end }}
