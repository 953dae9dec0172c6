{{/*
Each helper takes (dict "root" $ "role" "server"|"client"). Names are those of the original chart, and its selector was
the label `application` with the same value: both are immutable.
*/}}

{{- define "wormhole.name" -}}
{{- $suffix := .root.Values.nameSuffix -}}
wormhole-{{ .role }}{{ if $suffix }}-{{ $suffix }}{{ end }}
{{- end }}

{{/* For cluster-scoped objects. A colon is in no name of a namespace or release, so that two never come out alike. */}}
{{- define "wormhole.clusterName" -}}
{{ include "wormhole.name" . }}:{{ .root.Release.Namespace }}:{{ .root.Release.Name }}
{{- end }}

{{/* What stays the same from version to version: on pods, whose labels cannot change without replacing them. */}}
{{- define "wormhole.podLabels" -}}
application: {{ include "wormhole.name" . }}
app.kubernetes.io/name: wormhole
app.kubernetes.io/component: {{ .role }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "wormhole.labels" -}}
{{ include "wormhole.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "wormhole.selector" -}}
application: {{ include "wormhole.name" . }}
{{- end }}

{{/* What Services select: with leader election the replica in charge, which labels itself. */}}
{{- define "wormhole.serviceSelector" -}}
application: {{ include "wormhole.name" . }}
{{- if include "wormhole.leaderElection" . }}
wormhole.glothriel.github.com/active: "yes"
{{- end }}
{{- end }}

{{- define "wormhole.image" -}}
{{- $docker := .root.Values.docker -}}
{{- $version := default .root.Chart.AppVersion $docker.version | toString -}}
{{- if $docker.registry }}{{ trimSuffix "/" $docker.registry }}/{{ end -}}
{{ $docker.image }}{{ if hasPrefix "sha256:" $version }}@{{ else }}:{{ end }}{{ $version }}
{{- end }}

{{/* "yes" or nothing. */}}
{{- define "wormhole.leaderElection" -}}
{{- $values := index .root.Values .role -}}
{{- if and (eq .role "server") (eq $values.state "secret") $values.leaderElection }}yes{{ end -}}
{{- end }}

{{/* The Secret that the chart makes for a role out of values. */}}
{{- define "wormhole.secretName" -}}
{{ include "wormhole.name" . }}-credentials
{{- end }}
