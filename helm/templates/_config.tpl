{{/*
Where each secret of a role comes from: a YAML map from setting to {secret, key}. Exactly one credential for pairing: a
token is the stronger one, since it is this client's alone.
*/}}
{{- define "wormhole.credentials" -}}
{{- $values := index .root.Values .role -}}
{{- $peering := .root.Values.peering -}}
{{- $own := include "wormhole.secretName" . -}}
{{- $found := dict -}}
{{- if and (eq .role "client") $values.tokenSecret.name -}}
{{- $_ := set $found "token" (dict "secret" $values.tokenSecret.name "key" $values.tokenSecret.key) -}}
{{- else if and (eq .role "client") $values.token -}}
{{- $_ := set $found "token" (dict "secret" $own "key" "token") -}}
{{- else if $peering.existingSecret -}}
{{- $_ := set $found "psk" (dict "secret" $peering.existingSecret "key" $peering.existingSecretKey) -}}
{{- else if $peering.psk -}}
{{- $_ := set $found "psk" (dict "secret" $own "key" "psk") -}}
{{- end -}}
{{- if $values.basicAuth.existingSecret -}}
{{- $_ := set $found "basicAuthPassword" (dict "secret" $values.basicAuth.existingSecret "key" "password") -}}
{{- else if $values.basicAuth.password -}}
{{- $_ := set $found "basicAuthPassword" (dict "secret" $own "key" "password") -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}

{{/* The keys of the chart's own Secret that a role uses, as YAML; empty where it uses none. */}}
{{- define "wormhole.ownSecret" -}}
{{- $values := index .root.Values .role -}}
{{- $own := include "wormhole.secretName" . -}}
{{- $data := dict -}}
{{- range $setting, $from := include "wormhole.credentials" . | fromYaml -}}
{{- if eq $from.secret $own -}}
{{- $value := $values.basicAuth.password -}}
{{- if eq $setting "token" }}{{ $value = $values.token }}{{ end -}}
{{- if eq $setting "psk" }}{{ $value = $.root.Values.peering.psk }}{{ end -}}
{{- $_ := set $data $from.key (toString $value) -}}
{{- end -}}
{{- end -}}
{{- if and $values.basicAuth.username (not $values.basicAuth.existingSecret) -}}
{{- $_ := set $data "username" (toString $values.basicAuth.username) -}}
{{- end -}}
{{- if $data }}{{ toYaml $data }}{{ end -}}
{{- end }}

{{/* The role's configuration file (docs/configuration.md); `config` has the last word. */}}
{{- define "wormhole.config" -}}
{{- $values := index .root.Values .role -}}
{{- $config := dict "kubernetes" "on" "application" (include "wormhole.name" .) "wireguard" $values.wg.implementation -}}
{{- $_ := set $config "state" (eq $values.state "secret" | ternary "kubernetes" "sqlite") -}}
{{- if .root.Values.networkPolicies.enabled }}{{ $_ = set $config "networkPolicies" true }}{{ end -}}
{{- if $values.debug }}{{ $_ = set $config "logLevel" "debug" }}{{ end -}}
{{- if $values.name }}{{ $_ = set $config "name" $values.name }}{{ end -}}
{{- if $values.watchNamespaces }}{{ $_ = set $config "watchNamespaces" $values.watchNamespaces }}{{ end -}}
{{- if $values.apps }}{{ $_ = set $config "apps" "/etc/wormhole-apps/apps.yaml" }}{{ end -}}
{{- range $setting, $from := include "wormhole.credentials" . | fromYaml -}}
{{- $_ = set $config (printf "%sFile" $setting) (printf "/etc/wormhole-credentials/%s" $setting) -}}
{{- end -}}
{{- if eq .role "server" -}}
{{- $_ = set $config "tunnel" (printf "%s/%d" $values.wg.internalHost (int $values.wg.subnetMask)) -}}
{{- if $values.wg.publicHost }}{{ $_ = set $config "endpoint" $values.wg.publicHost }}{{ end -}}
{{- /* Clients reach a NodePort at the node's port, which tokens must hold. */ -}}
{{- if and (eq $values.service.type "NodePort") $values.wg.publicHost $values.service.nodePorts.pairing -}}
{{- $host := regexReplaceAll ":[0-9]+$" $values.wg.publicHost "" -}}
{{- $_ = set $config "publicUrl" (printf "http://%s:%d" $host (int $values.service.nodePorts.pairing)) -}}
{{- end -}}
{{- if include "wormhole.leaderElection" . }}{{ $_ = set $config "leaderElection" true }}{{ end -}}
{{- else -}}
{{- if $values.serverDsn }}{{ $_ = set $config "server" $values.serverDsn -}}
{{- else if .root.Values.server.enabled -}}
{{- $_ = set $config "server" (printf "http://%s.%s:8080" (include "wormhole.name" (dict "root" .root "role" "server")) .root.Release.Namespace) -}}
{{- end -}}
{{- if $values.syncMetadata }}{{ $_ = set $config "metadata" $values.syncMetadata }}{{ end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy $values.config)) -}}
{{- end }}
