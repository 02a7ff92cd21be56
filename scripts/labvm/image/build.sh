#!/bin/bash
# Build what the lab's machine boots from: build.sh CHECKOUT VENV FOLDER
#
# FOLDER gets vmlinux (the kernel), initrd, root.img (ext4, mounted read-only by the guest) and facts (what is in them).
# The caller makes sure that a half-built FOLDER is never used.
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

checkout=$1 venv=$2 folder=$3
here=$(dirname "$(realpath "$0")")
work=$folder/work
kernel=$work/kernel # what the kernel's packages unpack to
root=$work/root     # the guest's root file system
mkdir -p "$work"/{debs,modules} "$kernel"

# Modules that the guest gets, with what they depend on.
guest_modules=(
    igb igbvf vfio-pci vfio_iommu_type1 uio uio_pci_generic psample      # the NICs and their drivers
    virtio_net virtio_console virtio_blk virtio_pci ext4 overlay         # the machine
    veth bridge dummy macvlan macvtap ipvlan 8021q vrf bonding tun ifb   # what CNI plugins make
    sch_tbf sch_ingress act_mirred cls_u32 cls_matchall br_netfilter
    ip_tables iptable_nat iptable_filter nf_tables nft_compat nft_chain_nat nf_nat
    autofs4 binfmt_misc                                                        # systemd
    xt_comment xt_mark xt_MASQUERADE xt_multiport xt_addrtype xt_conntrack xt_nat xt_tcpudp
)
initrd_modules=(virtio_pci virtio_blk crc32c_generic ext4 overlay)

guest_packages=(
    python3 libstdc++6 busybox-static kmod udev procps mount                         # the machine; grpc needs libstdc++
    iproute2 ethtool pciutils dpdk iputils-ping iputils-arping tcpdump strace        # tools
    containernetworking-plugins iptables containerd runc
    systemd systemd-sysv dbus network-manager                                        # scripts/lab run --systemd
)

# In the environment for checking the code, of no use where the code runs.
unwanted_in_guest=(
    ruff mypy mypyc ast_serialize librt grimp importlinter pip
    setuptools _distutils_hack pkg_resources distutils-precedence.pth
)

say() { echo "lab: [${SECONDS}s] $*" >&2; }

fetch_packages() {
    local image series
    image=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    version=${image#linux-image-}
    series=$(cut -d. -f1,2 <<<"$version")
    (
        cd "$work/debs"
        apt-get download -qq "$image" "linux-headers-$version" "linux-headers-${version%-amd64}-common" \
            "linux-kbuild-$series" "linux-source-$series" dpdk-kmods-dkms
    )
    local deb
    for deb in "$work"/debs/linux-{image,headers,kbuild}*.deb "$work"/debs/dpdk-kmods*.deb; do
        dpkg -x "$deb" "$kernel"
    done
    depmod -b "$kernel" "$version"
    headers=$kernel/usr/src/linux-headers-$version
    # The headers package finds its other half by an absolute path.
    sed -i "s#^include /usr/#include $kernel/usr/#" "$headers/Makefile"
    say "kernel $version"
}

build_module() { # folder, then settings for make
    make -s -C "$headers" M="$1" "${@:2}" modules >&2
    strip --strip-debug "$1"/*.ko
    cp "$1"/*.ko "$work/modules/"
}

build_igb_uio() {
    build_module "$(dirname "$kernel"/usr/src/dpdk-kmods-*/igb_uio.c)"
    say "igb_uio"
}

# Debian's kernel leaves netdevsim out. It answers the VF settings that igb refuses.
build_netdevsim() {
    dpkg-deb --fsys-tarfile "$work"/debs/linux-source-*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
        xz -dc | tar -x -C "$work" --strip-components=1 --wildcards '*/drivers/net/netdevsim/*'
    build_module "$work/drivers/net/netdevsim" CONFIG_NETDEVSIM=m CONFIG_PSAMPLE=m
    say "netdevsim"
}

make_root() {
    local sources=() file packages
    for file in "$(dirname "$APT_CONFIG")"/sources.list.d/*; do
        case $file in *-backports.*) ;; *) sources+=("$file") ;; esac
    done
    # How the machine reaches its mirror (a proxy, say) holds for the guest's packages too.
    apt-config dump Acquire >"$work/acquire.conf"
    packages=$(IFS=, && echo "${guest_packages[*]}")
    # A mount namespace of its own: what mmdebstrap mounts is busy when a container runtime beside it looks at it, and
    # stays when it is killed.
    # The tar archive in between: mmdebstrap's folder would belong to whoever builds, and so would the guest's files.
    (unset APT_CONFIG && unshare --mount mmdebstrap -q --mode=root --variant=essential --aptopt='APT::Install-Recommends "false"' \
        --aptopt="$work/acquire.conf" --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/bin/containerd-stress' \
        --include="$packages" bookworm "$root" "${sources[@]}" >&2)
    say "root file system"
}

add_python_packages() {
    local site target skip=() name
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    target=$root/usr/local/lib/python3.11/dist-packages
    for name in "${unwanted_in_guest[@]}"; do skip+=(--exclude="./$name" --exclude="./$name-*"); done
    mkdir -p "$target"
    tar -C "$site" -c --exclude=__pycache__ "${skip[@]}" . | tar -C "$target" -x
    # Compiling is slow in the guest, and its clock may be behind: unchecked, so that times do not matter.
    "$venv/bin/python" -m compileall -q -j 2 -s "$root" --invalidation-mode unchecked-hash \
        "$target" "$root/usr/lib/python3" "$root/usr/lib/python3.11" >&2 || true
    say "Python packages"
}

# Copy modules with what they depend on from the kernel's package into TREE/lib/modules.
copy_modules() { # tree, modules
    local tree=$1/lib/modules/$version module path
    mkdir -p "$tree"
    for module in "${@:2}"; do
        modprobe -d "$kernel" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | sort -u | while read -r path; do
        install -D -m 644 "$path" "$tree/${path#"$kernel/lib/modules/$version/"}"
    done
    find "$tree" -name '*.ko.xz' -exec xz -d {} +
    cp "$kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$tree/"
}

finish_root() {
    copy_modules "$root" "${guest_modules[@]}"
    install -D -m 644 -t "$root/lib/modules/$version/extra" "$work"/modules/*.ko
    depmod -b "$root" "$version"

    install -D -m 755 -t "$root/usr/local/lib/lab" "$here"/guest/{start,agent.py}
    install -m 755 -t "$root/usr/local/bin" "$here"/guest/bin/*
    # As an installed machine: one without an id is taken for a new one, whose services are enabled anew.
    echo 6c61622d6c61622d6c61622d6c616221 >"$root/etc/machine-id"
    install -m 644 -t "$root/etc/systemd/system" "$here/guest/lab-agent.service"
    ln -s ../lab-agent.service "$root/etc/systemd/system/sysinit.target.wants/"
    ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service" # nobody is there to log in
    mkdir -p "$root"/{checkout,opt/cni/bin,etc/cni/net.d}
    ln -s /usr/lib/cni/* "$root/opt/cni/bin/"
    ln -s /usr/local/bin/{multus,sriov} "$root/opt/cni/bin/"
    echo lab >"$root/etc/hostname"
    printf '127.0.0.1 localhost lab\n::1 localhost lab\n' >"$root/etc/hosts"
    rm -rf "$root"/var/{cache/apt,lib/apt/lists}/*

    local size
    size=$(du -sm "$root" | cut -f1)
    mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$folder/root.img" $((size * 115 / 100 + 64))M
    say "root.img, $size MB"
}

make_initrd() {
    local tree=$work/initrd
    mkdir -p "$tree"/{bin,proc,sys,dev,base,changes,root}
    cp "$root/bin/busybox" "$tree/bin/"
    install -m 755 "$here/guest/init" "$tree/init"
    copy_modules "$tree" "${initrd_modules[@]}"
    depmod -b "$tree" "$version"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$folder/initrd"
}

write_facts() {
    {
        echo "kernel $version"
        chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' "${guest_packages[@]}"
    } >"$folder/facts"
}

fetch_packages
make_root &
root_job=$!
build_igb_uio
build_netdevsim
wait $root_job
add_python_packages
finish_root
make_initrd
write_facts
/usr/bin/python3 "$here/extract_vmlinux.py" "$kernel/boot/vmlinuz-$version" "$folder/vmlinux"
rm -rf "$work"
say "done"
