{{- define "hostfw.selector" -}}
app.kubernetes.io/name: hostfw
app.kubernetes.io/component: agent
{{- end }}

{{- define "hostfw.labels" -}}
{{ include "hostfw.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
