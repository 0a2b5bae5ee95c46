{{- define "signalbox.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "signalbox.fullname" -}}
{{- $name := include "signalbox.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What every object has. */}}
{{- define "signalbox.labels" -}}
app.kubernetes.io/name: {{ include "signalbox.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: signalbox
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What the gateway's pods are selected by. */}}
{{- define "signalbox.selector" -}}
app.kubernetes.io/name: {{ include "signalbox.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "signalbox.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* A duration of server.yaml in whole seconds, rounded up. */}}
{{- define "signalbox.seconds" -}}
{{- $text := toString . -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h)$" $text) -}}
{{- fail (printf "%q is no duration: a whole number with ms, s, m or h" $text) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+" $text | int64 -}}
{{- $unit := regexFind "[a-z]+$" $text -}}
{{- if eq $unit "ms" -}}{{ div (add $number 999) 1000 }}
{{- else if eq $unit "s" -}}{{ $number }}
{{- else if eq $unit "m" -}}{{ mul $number 60 }}
{{- else -}}{{ mul $number 3600 }}
{{- end -}}
{{- end }}

{{/* The models that the chart deploys, as a JSON list, each with its defaults and the name of its objects. */}}
{{- define "signalbox.servers" -}}
{{- $servers := list -}}
{{- $taken := dict -}}
{{- range .Values.models -}}
{{- if not .pools -}}
{{- $server := mergeOverwrite (deepCopy $.Values.modelDefaults) (deepCopy .) -}}
{{- $resource := regexReplaceAll "[^a-z0-9]+" (lower .name) "-" | trimAll "-" -}}
{{- if not (regexMatch "^[a-z]" $resource) -}}{{- $resource = printf "model-%s" $resource -}}{{- end -}}
{{- $resource = $resource | trunc 50 | trimSuffix "-" -}}
{{- if hasKey $taken $resource -}}
{{- fail (printf "models %q and %q would both be called %s" (get $taken $resource) .name $resource) -}}
{{- end -}}
{{- if or (eq $resource (include "signalbox.fullname" $)) (eq $resource (printf "%s-admin" (include "signalbox.fullname" $))) -}}
{{- fail (printf "model %q would be called as the gateway, %s" .name $resource) -}}
{{- end -}}
{{- $_ := set $taken $resource .name -}}
{{- $_ := set $server "resource" $resource -}}
{{- $servers = append $servers $server -}}
{{- end -}}
{{- end -}}
{{- toJson $servers -}}
{{- end }}

{{- define "signalbox.redisAddress" -}}
{{- default (printf "redis://%s-cache.%s.svc.%s:6379/0" (include "signalbox.fullname" .) .Release.Namespace .Values.clusterDomain)
    .Values.redis.address -}}
{{- end }}

{{/* policy.yaml: the one that was given, or the one of the models. */}}
{{- define "signalbox.policy" -}}
{{- if .Values.policy -}}
{{- if .Values.policyOverrides -}}
{{- fail "policyOverrides are merged over the policy that the chart makes; a whole `policy` has its own" -}}
{{- end -}}
{{- .Values.policy -}}
{{- else -}}
{{- if not .Values.models -}}{{- fail "there are neither `models` nor a `policy`" -}}{{- end -}}
{{- $models := dict -}}
{{- $decisions := list -}}
{{- $pools := deepCopy .Values.pools -}}
{{- range .Values.models -}}
{{- $name := .name -}}
{{- $model := dict "pools" .pools -}}
{{- if hasKey . "aliases" -}}
{{- if .aliases -}}{{- $_ := set $model "aliases" .aliases -}}{{- end -}}
{{- else if ne (default $name .model) $name -}}
{{- $_ := set $model "aliases" (list .model) -}}
{{- end -}}
{{- if hasKey $models $name -}}{{- fail (printf "there are two models %q" $name) -}}{{- end -}}
{{- $_ := set $models $name (mergeOverwrite $model (deepCopy (default dict .policy))) -}}
{{- range .domains -}}
{{- $decisions = append $decisions (dict "name" (printf "%s_decision" (replace " " "_" .))
    "priority" (ternary 5 10 (eq . "other")) "domains" (list .) "model" $name) -}}
{{- end -}}
{{- end -}}
{{- range fromJsonArray (include "signalbox.servers" .) -}}
{{- $endpoint := printf "%s.%s.svc.%s:%d" .resource $.Release.Namespace $.Values.clusterDomain (int .port) -}}
{{- if $.Values.discovery.enabled -}}
{{- $endpoint = dict "service" .resource "port" "http" "namespace" $.Release.Namespace -}}
{{- end -}}
{{- if hasKey $pools .resource -}}{{- fail (printf "the pool %q is that of the model %q" .resource .name) -}}{{- end -}}
{{- $_ := set $pools .resource (mergeOverwrite (dict "endpoints" (list $endpoint)) .pool) -}}
{{- $_ := set (get $models .name) "pools" (list .resource) -}}
{{- end -}}
{{- $policy := dict "version" 1 "models" $models "pools" $pools "decisions" $decisions
    "virtual_models" .Values.routing.virtualModels
    "default_model" (default (first .Values.models).name .Values.routing.defaultModel)
    "classifier" (dict "model" "builtin" "min_confidence" 0.5 "deadline" "500ms") -}}
{{- if .Values.gpu.enabled -}}{{- $_ := set $policy.classifier "device" "auto" -}}{{- end -}}
{{- if .Values.redis.enabled -}}
{{- $redis := dict "address" (include "signalbox.redisAddress" .) -}}
{{- if .Values.redis.passwordSecret -}}
{{- $_ := set $redis "password" (dict "file" "/var/run/secrets/signalbox/REDIS_PASSWORD") -}}
{{- end -}}
{{- $_ := set $policy "cache" (dict "store" "redis" "redis" $redis) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $policy (deepCopy .Values.policyOverrides)) -}}
{{- end -}}
{{- end }}

{{/* server.yaml. Addresses are said explicitly: the defaults are of this machine alone, which in a pod no probe reaches. */}}
{{- define "signalbox.server" -}}
{{- $own := dict "admin" (dict "address" "0.0.0.0:9090") -}}
{{- $http := dict "address" "0.0.0.0:8080" -}}
{{- if .Values.gatewayApi.enabled -}}
{{- $_ := set $http "public_port" .Values.service.port -}}
{{- $followed := dict "service" (printf "%s/%s" .Release.Namespace (include "signalbox.fullname" .)) -}}
{{- $fullname := include "signalbox.fullname" . -}}
{{- if ne $fullname "signalbox" -}}
{{- $_ := set $followed "lease" (printf "%s-gateway" $fullname) -}}
{{- end -}}
{{- with .Values.gatewayApi.namespaces -}}{{- $_ := set $followed "namespaces" . -}}{{- end -}}
{{- $_ := set $own "gateway_api" $followed -}}
{{- end -}}
{{- $listeners := list $http -}}
{{- if .Values.tls.enabled -}}
{{- $files := dict "cert_file" "/var/run/tls/tls.crt" "key_file" "/var/run/tls/tls.key" -}}
{{- $https := dict "address" "0.0.0.0:8443" "tls" $files -}}
{{- if .Values.gatewayApi.enabled -}}{{- $_ := set $https "public_port" .Values.service.httpsPort -}}{{- end -}}
{{- $listeners = append $listeners $https -}}
{{- end -}}
{{- $_ := set $own "listeners" $listeners -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.server) $own) -}}
{{- end }}

{{/* Whether the gateway asks the Kubernetes API, and so has a token. */}}
{{- define "signalbox.asksKubernetes" -}}
{{- if or .Values.discovery.enabled .Values.gatewayApi.enabled -}}yes{{- end -}}
{{- end }}

{{/* The volume in which a pod caches what it fetched: {size, storageClass, existingClaim}. */}}
{{- define "signalbox.cacheVolume" -}}
- name: cache
{{- if .existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .existingClaim }}
{{- else }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .size }}
{{- end }}
{{- end }}
