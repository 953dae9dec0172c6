{{/*
What no schema can say, each with a way out. Takes the root context. Every file begins with it: after --reuse-values from
another chart, values that a template takes for granted may be missing, and Helm's own error would come first.
*/}}
{{- define "wormhole.checks" -}}
{{- include "wormhole.checkOriginal" . -}}
{{- $values := .Values -}}
{{- if not (or $values.server.enabled $values.client.enabled) -}}
{{- fail "\n\nNothing to install: set server.enabled=true for a hub, or client.enabled=true for a spoke (docs/quickstart-helm.md)." -}}
{{- end -}}
{{- if not (regexMatch "^([a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?)?$" $values.nameSuffix) -}}
{{- fail (printf "\n\nnameSuffix %q cannot be part of names: use at most 20 lower-case letters, digits and dashes, such as \"blue\"." $values.nameSuffix) -}}
{{- end -}}
{{- $length := len (toString $values.peering.psk) -}}
{{- if and $values.peering.psk (or (lt $length 16) (gt $length 512)) -}}
{{- fail (printf "\n\npeering.psk has %d characters: use 16 to 512, such as `head -c 24 /dev/urandom | base64` prints, or leave it empty on the server, which then makes its own." $length) -}}
{{- end -}}
{{- range $role := list "server" "client" -}}
{{- if (index $values $role).enabled -}}
{{- include "wormhole.checkRole" (dict "root" $ "role" $role) -}}
{{- end -}}
{{- end -}}
{{- if $values.server.enabled }}{{ include "wormhole.checkServer" . }}{{ end -}}
{{- if $values.client.enabled }}{{ include "wormhole.checkClient" . }}{{ end -}}
{{- end }}

{{/* Values of the chart for the Go wormhole name three images and a PSK that everybody knows. */}}
{{- define "wormhole.checkOriginal" -}}
{{- $values := .Values -}}
{{- $old := list -}}
{{- range $key := list "wgImage" "wgVersion" "nginxImage" "nginxVersion" -}}
{{- if hasKey (default dict $values.docker) $key }}{{ $old = append $old (printf "docker.%s" $key) }}{{ end -}}
{{- end -}}
{{- if hasKey $values "devMode" }}{{ $old = append $old "devMode" }}{{ end -}}
{{- range $key := list "acceptor" "path" -}}
{{- if hasKey (default dict $values.server) $key }}{{ $old = append $old (printf "server.%s" $key) }}{{ end -}}
{{- end -}}
{{- if $old -}}
{{- fail (printf "\n\nThese values hold the original wormhole chart's defaults (%s), which do not fit here. Instead of --reuse-values run:\n\n  helm upgrade %s CHART --namespace %s --reset-then-reuse-values\n\nwhich keeps what you set yourself. If it says the same, remove these keys from your values (docs/upgrade.md)." (join ", " $old) .Release.Name .Release.Namespace) -}}
{{- end -}}
{{- $peering := default dict $values.peering -}}
{{- if eq (toString $peering.psk) "defaultPeeringKeyPleaseChangeMe" -}}
{{- fail (printf "\n\npeering.psk is the original chart's default, which everybody knows. Set another one, or leave it empty on the server, which then makes its own; to get rid of the old default run:\n\n  helm upgrade %s CHART --namespace %s --reset-then-reuse-values --set peering.psk=" .Release.Name .Release.Namespace) -}}
{{- end -}}
{{- end }}

{{- define "wormhole.checkRole" -}}
{{- $role := .role -}}
{{- $values := index .root.Values $role -}}
{{- $pod := default dict $values.securityContext -}}
{{- $container := default dict $values.containerSecurityContext -}}
{{- if or $pod.runAsNonRoot $container.runAsNonRoot -}}
{{- fail (printf "\n\n%s.%s.runAsNonRoot forbids what wormhole needs: the container's first process is root, with NET_ADMIN, SETUID, SETGID and KILL alone, and starts everything else under other users. Remove runAsNonRoot (docs/security.md says what the rights are for)." $role (empty $pod.runAsNonRoot | ternary "containerSecurityContext" "securityContext")) -}}
{{- end -}}
{{- range $key := list "psk" "token" "basicAuthPassword" -}}
{{- if hasKey $values.config $key -}}
{{- fail (printf "\n\n%s.config.%s would stand readable in a ConfigMap: use %s instead." $role $key (index (dict "psk" "peering.existingSecret or peering.psk" "token" "client.tokenSecret or client.token" "basicAuthPassword" (printf "%s.basicAuth" $role)) $key)) -}}
{{- end -}}
{{- end -}}
{{- $auth := $values.basicAuth -}}
{{- if and (not $auth.existingSecret) (ne (empty $auth.username) (empty $auth.password)) -}}
{{- fail (printf "\n\n%s.basicAuth needs both username and password, or existingSecret with both keys." $role) -}}
{{- end -}}
{{- if $values.name -}}
{{- if or (gt (len $values.name) 63) (not (regexMatch "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$" $values.name)) -}}
{{- fail (printf "\n\n%s.name %q is no DNS label: use at most 63 lower-case letters, digits and dashes, since it becomes part of Services' names on the other side." $role $values.name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "wormhole.checkServer" -}}
{{- $server := .Values.server -}}
{{- if and (gt (int $server.replicas) 1) (not (include "wormhole.leaderElection" (dict "root" . "role" "server"))) -}}
{{- fail (printf "\n\nserver.replicas is %d, and replicas share their state and take turns only with server.state=secret and server.leaderElection=true: set these, or replicas to 1." (int $server.replicas)) -}}
{{- end -}}
{{- end }}

{{- define "wormhole.checkClient" -}}
{{- $client := .Values.client -}}
{{- $credentials := include "wormhole.credentials" (dict "root" . "role" "client") | fromYaml -}}
{{- $token := hasKey $credentials "token" -}}
{{- if not (or $token (hasKey $credentials "psk")) -}}
{{- fail "\n\nThe client has nothing to pair with. Set one of\n  client.token or client.tokenSecret.name          what `wormhole token create` printed on the server\n  peering.existingSecret or peering.psk            the server's PSK: `wormhole psk show` prints it there" -}}
{{- end -}}
{{- if not (or $client.serverDsn $token .Values.server.enabled) -}}
{{- fail "\n\nclient.serverDsn is not set: set it to the server's pairing address, such as http://hub.example.org:8080." -}}
{{- end -}}
{{- if not (or $client.name $token) -}}
{{- fail "\n\nclient.name is not set: set it to the name that the server is to know this cluster by, such as \"berlin\"; Services there will be called <name>-<app>." -}}
{{- end -}}
{{- end }}
