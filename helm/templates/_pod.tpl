{{/*
Changes with a secret and says nothing about it: annotations are read by many, and a plain hash of a PSK could be guessed
at in bulk. derivePassword is scrypt with N=32768.
*/}}
{{- define "wormhole.fingerprint" -}}
{{ derivePassword 1 "maximum" . "wormhole" "fingerprint" | sha256sum | trunc 16 }}
{{- end }}

{{/* The container's security context: the user's, and what wormhole cannot do without. */}}
{{- define "wormhole.containerSecurityContext" -}}
{{- $context := deepCopy (default dict (index .root.Values .role).containerSecurityContext) -}}
{{- $capabilities := deepCopy (default (dict "drop" (list "ALL")) $context.capabilities) -}}
{{- $needed := list "NET_ADMIN" "SETUID" "SETGID" "KILL" -}}
{{- $_ := set $capabilities "add" (uniq (concat $needed (default list $capabilities.add))) -}}
{{- $_ = set $context "capabilities" $capabilities -}}
{{- $_ = set $context "runAsUser" 0 -}}
{{- $_ = set $context "runAsGroup" 0 -}}
{{- toYaml $context -}}
{{- end }}

{{- define "wormhole.pullSecrets" -}}
{{- $all := list -}}
{{- range concat (default list .root.Values.docker.imagePullSecrets) (default list .root.Values.docker.pullSecrets) -}}
{{- $all = append $all (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- if $all }}{{ toYaml $all }}{{ end -}}
{{- end }}

{{- define "wormhole.affinity" -}}
{{- $values := index .root.Values .role -}}
{{- if $values.affinity }}
{{- toYaml $values.affinity }}
{{- else if and (eq .role "server") (gt (int $values.replicas) 1) }}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "wormhole.selector" . | nindent 12 }}
{{- end }}
{{- end }}

{{- define "wormhole.env" -}}
{{- $auth := (index .root.Values .role).basicAuth -}}
- name: WORMHOLE_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: WORMHOLE_POD_IPS
  valueFrom: {fieldRef: {fieldPath: status.podIPs}}
{{- if or $auth.existingSecret $auth.username }}
- name: WORMHOLE_BASIC_AUTH_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ default (include "wormhole.secretName" .) $auth.existingSecret }}
      key: username
{{- end }}
{{- with (index .root.Values .role).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "wormhole.volumes" -}}
{{- $values := index .root.Values .role -}}
{{- $name := include "wormhole.name" . -}}
- name: run
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: config
  configMap:
    name: {{ $name }}
{{- with include "wormhole.credentials" . | fromYaml }}
- name: credentials
  projected:
    defaultMode: 0444
    sources:
      {{- range $setting, $from := . }}
      - secret:
          name: {{ $from.secret }}
          items:
            - {key: {{ $from.key | quote }}, path: {{ $setting }}}
      {{- end }}
{{- end }}
{{- if $values.apps }}
- name: apps
  configMap:
    name: {{ $name }}-apps
{{- end }}
{{- if eq $values.state "pvc" }}
- name: state
  persistentVolumeClaim:
    claimName: {{ $name }}
{{- end }}
{{- if $values.wg.tunDevice }}
- name: tun
  hostPath: {path: /dev/net/tun, type: CharDevice}
{{- end }}
{{- end }}

{{- define "wormhole.volumeMounts" -}}
{{- $values := index .root.Values .role -}}
- {name: run, mountPath: /run}
- {name: tmp, mountPath: /tmp}
- {name: config, mountPath: /etc/wormhole, readOnly: true}
{{- if include "wormhole.credentials" . | fromYaml }}
- {name: credentials, mountPath: /etc/wormhole-credentials, readOnly: true}
{{- end }}
{{- if $values.apps }}
- {name: apps, mountPath: /etc/wormhole-apps, readOnly: true}
{{- end }}
{{- if eq $values.state "pvc" }}
- {name: state, mountPath: /var/lib/wormhole}
{{- end }}
{{- if $values.wg.tunDevice }}
- {name: tun, mountPath: /dev/net/tun}
{{- end }}
{{- end }}

{{- define "wormhole.ports" -}}
{{- if eq .role "server" -}}
- {name: wireguard, containerPort: 51820, protocol: UDP}
- {name: pairing, containerPort: 8080}
{{ end -}}
- {name: api, containerPort: 8082}
- {name: metrics, containerPort: 8090}
{{- end }}

{{/*
Ready: this part carries traffic (a client: it is paired; a waiting replica: it could take over). Alive: the program
answers, whatever it waits for: the other side, or the API server. It is started anew by the image's supervisor when it
ends, which leaves nginx and WireGuard alone; a restart of the container does not, so the probe is slow to ask for one.
*/}}
{{- define "wormhole.probes" -}}
startupProbe:
  httpGet: {path: /live, port: api}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /health, port: api}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet: {path: /live, port: api}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}
