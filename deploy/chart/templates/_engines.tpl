{{/* What a model's pods are selected by, of (root, model). */}}
{{- define "signalbox.modelSelector" -}}
{{- $root := index . 0 -}}
{{- $model := index . 1 -}}
app.kubernetes.io/name: {{ $model.resource }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: model-server
{{- end }}

{{/* `signalbox sim`, of (root, model). */}}
{{- define "signalbox.simContainer" -}}
{{- $root := index . 0 -}}
{{- $model := index . 1 -}}
image: {{ include "signalbox.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args:
  - sim
  - --listen
  - 0.0.0.0:{{ $model.port }}
  - --model
  - {{ $model.name | quote }}
  - --ttft
  - 150ms
  - --itl
  - 20ms
ports:
  - name: http
    containerPort: {{ $model.port }}
resources:
  requests:
    cpu: 50m
    memory: 64Mi
  limits:
    memory: 256Mi
readinessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 2
livenessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 10
lifecycle:
  preStop:
    sleep:
      seconds: 10
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* vLLM, or an engine of another kind, of a model. */}}
{{- define "signalbox.engineContainer" -}}
{{- $loaded := default .name .model -}}
{{- $served := list .name $loaded | uniq -}}
image: {{ .image }}
imagePullPolicy: {{ .imagePullPolicy }}
{{- if eq .engine "vllm" }}
command: [vllm, serve]
args:
  - {{ $loaded | quote }}
  - --served-model-name
  {{- range $served }}
  - {{ . | quote }}
  {{- end }}
  - --port
  - {{ .port | quote }}
  {{- range .args }}
  - {{ . | quote }}
  {{- end }}
{{- else }}
{{- with .command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
env:
  {{- with .hfToken }}
  {{- if .secret }}
  - name: HF_TOKEN
    valueFrom:
      secretKeyRef:
        name: {{ .secret }}
        key: {{ .key }}
        optional: true
  {{- end }}
  {{- end }}
  # Everything that is cached (weights, compiled kernels) goes to the volume. PyTorch asks for the user's name, which an
  # arbitrary uid has only through USER.
  - name: HOME
    value: /cache
  - name: HF_HOME
    value: /cache/huggingface
  - name: USER
    value: vllm
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: http
    containerPort: {{ .port }}
resources:
  requests:
    {{- toYaml (.resources.requests | default dict) | nindent 4 }}
    {{- if .gpu }}
    {{ .gpuResource }}: {{ .gpu | quote }}
    {{- end }}
  limits:
    {{- toYaml (.resources.limits | default dict) | nindent 4 }}
    {{- if .gpu }}
    {{ .gpuResource }}: {{ .gpu | quote }}
    {{- end }}
# The first start downloads the weights: up to 30 minutes.
startupProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 10
  failureThreshold: 180
readinessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 5
livenessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 5
# Requests that arrive before every gateway has seen the change of DNS are still answered.
lifecycle:
  preStop:
    sleep:
      seconds: 15
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: cache
    mountPath: /cache
  - name: shm
    mountPath: /dev/shm
{{- end }}
