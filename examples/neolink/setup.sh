#!/bin/bash
# Called by test.sh as the first process of new namespaces: builds the private root and starts its two sides.
set -euo pipefail
root=$1 inpod=$2 here=$3

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p proc dev sys tmp run root etc/supervisord init usr example
chmod 1777 tmp
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount --rbind /usr usr
for dir in bin sbin lib lib32 lib64; do
    if [ -L "/$dir" ]; then
        cp -P "/$dir" .
    elif [ -d "/$dir" ]; then
        mkdir "$dir"
        mount --rbind "/$dir" "$dir"
    fi
done
for file in passwd group nsswitch.conf hosts ld.so.cache ld.so.conf localtime; do
    if [ -e "/etc/$file" ]; then cp -L "/etc/$file" etc/; fi
done
if [ -d /etc/alternatives ]; then # pgrep, awk and others may be links through here
    mkdir etc/alternatives
    mount --bind /etc/alternatives etc/alternatives
fi

# The image: its own files under /init and /etc/supervisord, the tools and supervisord under /usr/local.
mount -t tmpfs -o mode=755 tmpfs usr/local
mkdir -p usr/local/bin usr/local/sbin
cp "$here/standins/tool.py" usr/local/sbin/sshd
for tool in jupyter-lab tensorboard ollama; do cp "$here/standins/tool.py" "usr/local/bin/$tool"; done
cp "$inpod" usr/local/bin/inpod
ln -s inpod usr/local/bin/supervisord
cp -r "$here/root/init/." init/
cp "$here/root/etc/supervisord/supervisor-other.ini" supervisor-other.ini # put in place later
cp "$here/check.sh" check.sh

/usr/bin/python3 -c '
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:  # "ip link set lo up" where there is no ip
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x49))'

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
exec chroot . /bin/bash /check.sh
