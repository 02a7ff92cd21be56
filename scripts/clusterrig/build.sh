#!/bin/bash
# Build kube-apiserver and kubelet from Debian's source package: build.sh VERSION FOLDER
#
# FOLDER gets the two programs, etcd, and facts (what they were made of). The caller sees to it that a half-built FOLDER is
# never used. APT_CONFIG names an apt configuration with the machine's sources, see scripts/bootstrap.
set -euo pipefail
export LC_ALL=C.UTF-8

go=/usr/lib/go-1.19
reflect2=/usr/share/gocode/src/github.com/modern-go/reflect2

version=$1 folder=$2
work=$folder/work
mkdir -p "$work"/{sources.list.d,lists/partial,archives/partial,debian,home,gocache}

say() { echo "cluster: [${SECONDS}s] $*" >&2; }

# The machine's sources, but the source packages of them.
fetch_source() {
    local file configured
    configured=$(sed -n 's/^Dir::Etc::sourceparts "\(.*\)";$/\1/p' "$APT_CONFIG")
    for file in "$configured"/*; do
        case $file in
            *-backports.*) ;;
            *.sources) sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources.list.d/${file##*/}" ;;
            *.list) sed 's/^deb\([ \t]\)/deb-src\1/' "$file" >"$work/sources.list.d/${file##*/}" ;;
        esac
    done
    cat >"$work/apt.conf" <<END_OF_CONFIG
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$work/sources.list.d";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
APT::Sandbox::User "root";
END_OF_CONFIG
    (
        export APT_CONFIG=$work/apt.conf
        cd "$work"
        apt-get update -qq
        apt-get source -qq --download-only kubernetes
    ) >&2
    say "fetched the source package"
}

# Unpacked and not installed: on a machine with systemd the package would start an etcd of its own.
fetch_etcd() {
    (cd "$work" && apt-get download -qq etcd-server && dpkg -x etcd-server_*.deb etcd) >&2
}

unpack() {
    local patch
    tar -xzf "$work"/kubernetes_*.orig.tar.gz -C "$work"
    tar -xJf "$work"/kubernetes_*.debian.tar.xz -C "$work/debian"
    tree=$(echo "$work"/kubernetes-*/)
    tree=${tree%/}
    case ${tree##*/} in
        *"$version"*) ;;
        *) say "Debian's package is now ${tree##*/}, and not $version: say so in programs.py"; exit 1 ;;
    esac
    while read -r patch; do
        case $patch in '' | '#'*) continue ;; esac
        patch -s -d "$tree" -p1 <"$work/debian/debian/patches/$patch" >&2
    done <"$work/debian/debian/patches/series"
    # The vendored one reaches into Go's runtime, and since Go 1.18 crashes on the first custom object.
    rm -f "$tree"/vendor/github.com/modern-go/reflect2/*.{go,s}
    cp "$reflect2"/*.{go,s} "$tree/vendor/github.com/modern-go/reflect2/"
    say "unpacked ${tree##*/}"
}

build() {
    mkdir -p "$tree/.go/src/k8s.io"
    ln -s ../../.. "$tree/.go/src/k8s.io/kubernetes"
    cat >"$work/version" <<END_OF_VERSION
KUBE_GIT_COMMIT=debian
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=v$version
KUBE_GIT_MAJOR=$(cut -d. -f1 <<<"$version")
KUBE_GIT_MINOR=$(cut -d. -f2 <<<"$version")
END_OF_VERSION
    (
        cd "$tree"
        # Alone in this environment: what the caller has set for Go must not matter.
        env -i LC_ALL=C.UTF-8 PATH="$go/bin:/usr/bin:/bin" HOME="$work/home" GOROOT="$go" GOPATH="$tree/.go" \
            GOCACHE="$work/gocache" GO111MODULE=auto GOPROXY=off CGO_ENABLED=0 \
            KUBE_GIT_VERSION_FILE="$work/version" KUBE_VERBOSE=1 \
            nice make WHAT='cmd/kube-apiserver cmd/kubelet' GOLDFLAGS='-s -w' GOFLAGS="-p=$(nproc)"
    ) >&2
    say "built"
}

fetch_source
fetch_etcd
unpack
build
cp "$tree/_output/bin/kube-apiserver" "$tree/_output/bin/kubelet" "$work/etcd/usr/bin/etcd" "$folder/"
(cd "$work" && echo kubernetes_*.dsc etcd-server_*.deb) >"$folder/facts"
rm -rf "$work"
