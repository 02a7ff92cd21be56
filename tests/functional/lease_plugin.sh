#!/bin/sh
# A CNI plugin that holds one thing: a file for each attachment. LEASES is its folder.
# <type>.fail beside the files makes ADD fail after it took its lease, <type>.hang makes it hang,
# <type>.one has ADD fail with code 11 while there is another lease.
# <type>.gate is a pipe that it reads a line from.
conf=$(cat)
me=$(basename "$0")
lease="$LEASES/$me-$CNI_CONTAINERID-$CNI_IFNAME"
echo "$CNI_COMMAND $me $CNI_IFNAME" >> "$LEASES.log"
case $CNI_COMMAND in
ADD)
    [ ! -e "$lease" ] || { echo '{"code": 100, "msg": "taken"}'; exit 1; }
    if [ -e "$LEASES.$me.one" ] && ls "$LEASES/$me-"* > /dev/null 2>&1; then
        echo '{"code": 11, "msg": "there is only one, and it is taken"}'
        exit 1
    fi
    : > "$lease"
    [ ! -e "$LEASES.$me.fail" ] || { echo '{"code": 100, "msg": "told to fail"}'; exit 1; }
    [ ! -e "$LEASES.$me.hang" ] || sleep 600
    [ ! -e "$LEASES.$me.gate" ] || read -r _ < "$LEASES.$me.gate"
    printf '{"interfaces": [{"name": "%s", "sandbox": "%s"}]}' "$CNI_IFNAME" "$CNI_NETNS" ;;
DEL)
    [ ! -e "$LEASES.$me.nodel" ] || { echo '{"code": 101, "msg": "told to keep"}'; exit 1; }
    rm -f "$lease" ;;
GC) echo "$conf" > "$LEASES.$me.gc" ;;
esac
exit 0
