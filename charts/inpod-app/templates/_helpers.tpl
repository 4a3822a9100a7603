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

{{- /* app.string is a value as text, whatever YAML made of it; not with exponents, as numbers are otherwise */ -}}
{{- define "app.string" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- /* app.strings is a map of labels, annotations or selectors: Kubernetes takes only strings there */ -}}
{{- define "app.strings" -}}
{{- $out := dict }}
{{- range $key, $value := . }}{{ $_ := set $out $key (include "app.string" $value) }}{{ end }}
{{- toYaml $out }}
{{- end }}

{{- /* app.setting takes name and value: what YAML reads of on and off are booleans */ -}}
{{- define "app.setting" -}}
{{- if and (kindIs "bool" .value) (has .name (list "ssh" "ssh-forward" "scrape")) }}{{ ternary "on" "off" .value }}{{ else }}{{ include "app.string" .value }}{{ end }}
{{- end }}
