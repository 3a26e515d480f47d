#!/bin/sh
# Install this checkout as a service, or upgrade to it: infra/systemd/install.sh, as root.
# Each release has a folder of its own under /opt/aup-worker, and `current` points at the newest; the
# last three and the one of `current` are kept. Starts, stops and restarts nothing, and keeps existing settings.
set -eu
cd "$(dirname "$0")/../.."
home=/opt/aup-worker
units=/etc/systemd/system

if [ "$(id -u)" != 0 ]; then
	echo "install.sh: needs root" >&2
	exit 2
fi
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' worker/__init__.py)
release=$home/$version-$(date -u +%Y%m%dT%H%M%SZ)
build=$(mktemp -d)
done=
tidy() {
	rm -rf "$build" "$home/.current.$$"
	[ -n "$done" ] || rm -rf "$release"
}
trap tidy EXIT

# A process that runs from a release has a file of it mapped.
in_use() {
	grep -qsF " $1/" /proc/[0-9]*/maps
}

# The release contains no pip: the environment that installs it is deleted.
pip() {
	"$build/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}
python=${PYTHON:-/usr/bin/python3}
if ! "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	echo "install.sh: $python is not Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv); name another with PYTHON=" >&2
	exit 2
fi
"$python" -m venv "$build"
umask 022
"$build/bin/python" -m venv --without-pip "$release"
pip install --require-hashes --no-deps -r infra/locks/requirements-build.lock
pip wheel --no-deps --no-build-isolation --wheel-dir "$build/wheel" .
pip --python "$release/bin/python" install --no-compile --require-hashes --no-deps -r infra/locks/requirements-run.lock
pip --python "$release/bin/python" install --no-compile --no-index --no-deps "$build"/wheel/*.whl
"$release/bin/python" -m compileall -q "$release/lib"
"$release/bin/aup-worker" --help >"$build/help"
done=1

# rename(2) is atomic within one file system only, and mktemp's may be another one.
ln -s "$release" "$home/.current.$$"
mv -Tf "$home/.current.$$" "$home/current"
install -D -m 644 infra/systemd/aup-worker@.service "$units/aup-worker@.service"
if [ "$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')" -ge 254 ]; then
	install -D -m 644 infra/systemd/backoff.conf "$units/aup-worker@.service.d/backoff.conf"
fi
install -d -m 700 /etc/credstore
if [ ! -e /etc/aup-worker/aup-worker.env ]; then
	install -D -m 600 infra/systemd/aup-worker.env.example /etc/aup-worker/aup-worker.env
fi
systemctl daemon-reload

# Names end with the time of the installation. Another worker may still run an older release.
find "$home" -mindepth 1 -maxdepth 1 -type d -name '*-[0-9]*T[0-9]*Z' -printf '%f\n' |
	awk -F - '{ print $NF, $0 }' | sort -r | tail -n +4 | while read -r _ old; do
	if [ "$(readlink -f "$home/current")" = "$home/$old" ] || in_use "$home/$old"; then
		continue
	fi
	rm -rf "${home:?}/$old"
	echo "removed $home/$old"
done

echo "installed $release"
echo "settings: /etc/aup-worker/aup-worker.env; keys, if any: /etc/credstore/aup-worker.aws-credentials"
echo "start a worker, with a process for each CPU: systemctl enable --now aup-worker@1"
echo "upgrade it: systemctl restart aup-worker@1"
