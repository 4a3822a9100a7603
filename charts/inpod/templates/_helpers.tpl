{{- define "inpod.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "inpod.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "inpod.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "inpod.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "inpod.injector" -}}
{{ include "inpod.fullname" . }}-injector
{{- end }}

{{- define "inpod.labels" -}}
app.kubernetes.io/name: {{ include "inpod.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "inpod.selector" -}}
app.kubernetes.io/name: {{ include "inpod.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: injector
{{- end }}

{{- /* inpod.image takes an image's values and the chart's version */ -}}
{{- define "inpod.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .version }}{{ end }}
{{- end }}

{{- define "inpod.priorityClass" -}}
{{ .Values.injector.priorityClass.name | default (include "inpod.injector" .) }}
{{- end }}

{{- /* inpod.string is a value as text, whatever YAML made of it; not with exponents, as numbers are otherwise */ -}}
{{- define "inpod.string" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- /* inpod.strings is a map of labels, annotations or selectors: Kubernetes takes only strings there */ -}}
{{- define "inpod.strings" -}}
{{- $out := dict }}
{{- range $key, $value := . }}{{ $_ := set $out $key (include "inpod.string" $value) }}{{ end }}
{{- toYaml $out }}
{{- end }}
