{{- /* Labels of every object; called with (dict "context" $ "component" "operator"). */}}
{{- define "aviary.labels" -}}
app.kubernetes.io/name: aviary
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ .context.Chart.Name }}-{{ .context.Chart.Version }}
{{- end }}

{{- define "aviary.selector" -}}
app.kubernetes.io/name: aviary
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Name of a component's objects: aviary-operator in the release "aviary". */}}
{{- define "aviary.name" -}}
{{ .context.Release.Name | trunc 50 | trimSuffix "-" }}-{{ .component }}
{{- end }}

{{- define "aviary.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What every pod of ours is held to. */}}
{{- define "aviary.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "aviary.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Where a component's pods may run. */}}
{{- define "aviary.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* ServiceAccount, roles and bindings of a component, from the generated rules. An operator of
       one namespace has its rights there, and besides sees that namespace and the one by which
       it knows which Kubernetes it is in. */}}
{{- define "aviary.access" -}}
{{- $name := include "aviary.name" . -}}
{{- $watched := eq .component "operator" | ternary .context.Values.operator.watchNamespace "" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .context.Release.Namespace }}
  labels: {{- include "aviary.labels" . | nindent 4 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels: {{- include "aviary.labels" . | nindent 4 }}
rules:
{{ .context.Files.Get (printf "files/rbac/%s-cluster-role.yaml" .component) }}
---
{{- if $watched }}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}-watched
  namespace: {{ $watched }}
  labels: {{- include "aviary.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}}
subjects: [{kind: ServiceAccount, name: {{ $name }}, namespace: {{ .context.Release.Namespace }}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}-namespaces
  labels: {{- include "aviary.labels" . | nindent 4 }}
rules:
  - apiGroups: [""]
    resources: [namespaces]
    resourceNames: [kube-system, {{ $watched }}]
    verbs: [get, list, watch]
---
{{- end }}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}{{ if $watched }}-namespaces{{ end }}
  labels: {{- include "aviary.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}{{ if $watched }}-namespaces{{ end }}}
subjects: [{kind: ServiceAccount, name: {{ $name }}, namespace: {{ .context.Release.Namespace }}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ .context.Release.Namespace }}
  labels: {{- include "aviary.labels" . | nindent 4 }}
rules:
{{ .context.Files.Get (printf "files/rbac/%s-role.yaml" .component) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ .context.Release.Namespace }}
  labels: {{- include "aviary.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects: [{kind: ServiceAccount, name: {{ $name }}, namespace: {{ .context.Release.Namespace }}}]
{{- end }}

{{- define "aviary.environment" -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: AVIARY_LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
- name: AVIARY_LOG
  value: {{ .Values.logFilter | quote }}
{{- end }}
