{{- define "app.name" -}}
{{- .Values.fullnameOverride | default (default .Release.Name .Values.nameOverride) | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "app.selector" -}}
app.kubernetes.io/name: {{ include "app.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "app.labels" -}}
{{ include "app.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "app.keys" -}}
{{ .Values.ssh.secret | default (printf "%s-ssh-keys" (include "app.name" .)) }}
{{- end }}

{{- define "app.hasSSH" -}}
{{- if or .Values.ssh.secret .Values.ssh.authorizedKeys }}true{{ end }}
{{- end }}
