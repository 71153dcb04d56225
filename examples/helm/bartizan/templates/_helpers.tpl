{{/* The name of everything: that of the release, which may have the chart's name in it. */}}
{{- define "bartizan.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "bartizan.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bartizan.labels" -}}
{{ include "bartizan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "bartizan.image" -}}
{{- if .Values.image.digest }}{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}{{ else }}{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}{{ end }}
{{- end }}

{{/*
What the policy says about ports, as YAML: `listeners`, a list of `name`, `port` and `tls`; and `admin`, with `port` and `scheme`,
or `exec` where it is only on a socket.
*/}}
{{- define "bartizan.ports" -}}
{{- $policy := fromYaml .Values.policy }}
{{- if hasKey $policy "Error" }}{{ fail (printf "`policy` is no YAML: %s" $policy.Error) }}{{ end }}
{{- if eq .Values.onPolicyChange "reload" }}
{{- $watch := dig "secrets" "watch" "" $policy }}
{{- if not (and (kindIs "map" $watch) (dig "policy" false $watch)) }}{{ fail "with `onPolicyChange: reload` no pod would notice a changed policy; write `secrets: { watch: { every: 5s, policy: true } }` into it" }}{{ end }}
{{- end }}
{{- $listeners := list }}
{{- range $position, $one := $policy.listen }}
{{- if $one.address }}
{{- $port := regexFind "[0-9]+$" $one.address }}
{{- if or (not $port) (eq $port "0") }}{{ fail (printf "`policy`: the port of listen[%d] must be a number, for the Service" $position) }}{{ end }}
{{- if regexMatch "^(127\\.|\\[::1\\]|localhost)" $one.address }}{{ fail (printf "`policy`: listen[%d] is on loopback, where no Service reaches it; write `0.0.0.0:%s`" $position $port) }}{{ end }}
{{- $name := ternary "https" "http" (hasKey $one "tls") }}
{{- if $position }}{{ $name = printf "%s-%s" $name $port }}{{ end }}
{{- $listeners = append $listeners (dict "name" $name "port" (int $port) "tls" (hasKey $one "tls")) }}
{{- end }}
{{- end }}
{{- if not $listeners }}{{ fail "`policy` has no `listen` with an address" }}{{ end }}
{{- $admin := dict }}
{{- $written := $policy.admin | default dict }}
{{- if $written.address }}
{{- $port := regexFind "[0-9]+$" $written.address }}
{{- if or (not $port) (eq $port "0") }}{{ fail "`policy`: the port of `admin.address` must be a number, for the probes" }}{{ end }}
{{- if regexMatch "^(127\\.|\\[::1\\]|localhost)" $written.address }}{{ fail (printf "`policy`: `admin.address` is on loopback, where the kubelet does not reach it; write `0.0.0.0:%s`, or a `socket` instead" $port) }}{{ end }}
{{- if eq (dig "tls" "client_certificate" "" $written) "required" }}{{ fail "`policy`: the kubelet has no certificate for `admin.tls`; write `client_certificate: optional`, or a `socket` instead of the address" }}{{ end }}
{{- $admin = dict "port" (int $port) "scheme" (ternary "HTTPS" "HTTP" (hasKey $written "tls")) }}
{{- else if $written.socket }}
{{- $admin = dict "exec" true }}
{{- else }}{{ fail "`policy` has no `admin`, which the probes ask; write `admin: { address: \"0.0.0.0:9901\" }`" }}{{ end }}
{{- toYaml (dict "listeners" $listeners "admin" $admin) }}
{{- end }}

{{/* How the kubelet asks: `dict "admin" … "live" true`. */}}
{{- define "bartizan.probe" -}}
{{- if .admin.exec -}}
exec: { command: [/usr/bin/bartizan, health, --policy, /etc/bartizan/policy.yaml{{ if .live }}, --live{{ end }}] }
timeoutSeconds: 5
{{- else -}}
httpGet: { path: {{ ternary "/healthz" "/readyz" .live }}, port: admin, scheme: {{ .admin.scheme }} }
timeoutSeconds: 3
{{- end }}
{{- end }}
