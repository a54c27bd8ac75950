#!/usr/bin/env bash
# Open3D loads these three libraries from the system. Installs what is missing where it may, else says what to install.
set -euo pipefail

missing=()
have() { PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -F "$1" >/dev/null; }
have libusb-1.0.so.0 || missing+=(libusb-1.0-0)
have libGL.so.1 || missing+=(libgl1)
have libgomp.so.1 || missing+=(libgomp1)
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "genworld: Open3D needs the system libraries libusb-1.0, libGL and libgomp; install them with your package manager." >&2
  exit 0
fi
if [ "$(id -u)" = 0 ]; then
  sudo=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  sudo=(sudo -n)
else
  echo "genworld: Open3D needs system packages. Install them with: sudo apt-get install ${missing[*]}" >&2
  exit 0
fi
echo "genworld: installing ${missing[*]}"
{
  "${sudo[@]}" apt-get update -qq &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
} || echo "genworld: could not install ${missing[*]}; install them yourself" >&2
