#!/usr/bin/env bash
# A disposable PostgreSQL with pgvector, for tests and benchmarks, from Debian's packages.
#
#   scripts/native-postgres.sh start   [--name NAME] [--keep]      prints its URL, the value for TEST_DATABASE_URL
#   scripts/native-postgres.sh replica  --name NAME  [--of OTHER]  creates a streaming replica of OTHER, prints its URL
#   scripts/native-postgres.sh status  [--name NAME]               prints the URL; exits 3 when it does not run
#   scripts/native-postgres.sh stop    [--name NAME] [--keep]      stops it and removes its data
#   scripts/native-postgres.sh crash   [--name NAME]               restarts it without a shutdown, like a power failure
#   scripts/native-postgres.sh kill    [--name NAME]               kills it (SIGKILL) for good; then `stop` removes its data
#
# Clusters of different names run side by side. `start` replaces a cluster of the same name, running or not, with an
# empty one; `start --keep` reuses a running cluster or the data that `stop --keep` left, on the same port if the port
# is still free. `replica` also replaces a cluster of the same name; replicas are stopped and started like others.
#
# An installed PostgreSQL 17 or 18 with pgvector is used as it is. If the machine's Debian release offers one, it is
# installed from apt (as root). On an older Debian a newer release is bootstrapped into a directory by debootstrap,
# from the machine's Debian mirror (as root, once, about 700 MB).
#
#   PGQUIVER_CACHE    the directory for that; default ${XDG_CACHE_HOME:-~/.cache}/pgquiver
#   PGQUIVER_MIRROR   the Debian mirror; default: the one in this machine's apt sources
set -euo pipefail

cache=${PGQUIVER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pgquiver}
release=trixie
memory_needed_mb=1024

main() {
  local command=${1:-} name=default keep=false origin=default cluster
  shift || true
  while (($# > 0)); do
    case $1 in
      --name)
        (($# > 1)) || usage
        name=$2
        shift 2
        ;;
      --of)
        (($# > 1)) || usage
        origin=$2
        shift 2
        ;;
      --keep)
        keep=true
        shift
        ;;
      *) usage ;;
    esac
  done
  for cluster in "$name" "$origin"; do
    [[ $cluster =~ ^[a-z0-9][a-z0-9_-]*$ ]] || usage
  done

  case $command in
    start)
      provide_postgres
      locate_cluster "$name"
      [[ $keep == true ]] || remove_cluster
      start_cluster
      ;;
    replica)
      [[ $name != "$origin" ]] || usage
      find_postgres && locate_cluster "$origin" && is_running || fail "No cluster '$origin' is running." 3
      local url
      url=$(print_url)
      locate_cluster "$name"
      remove_cluster
      make_directory
      postgres pg_basebackup --dbname "$url?application_name=$name" --pgdata data --write-recovery-conf \
        --wal-method stream --checkpoint fast >&2
      start_cluster
      ;;
    stop)
      find_postgres || exit 0
      locate_cluster "$name"
      if [[ $keep == true ]]; then stop_cluster; else remove_cluster; fi
      ;;
    crash)
      find_postgres && locate_cluster "$name" && is_running || fail "No cluster '$name' is running." 3
      # pg_ctl restart reuses the options in postmaster.opts, so the port stays the same.
      postgres pg_ctl restart --silent --wait --mode immediate --pgdata data --log log >&2
      ;;
    kill)
      find_postgres && locate_cluster "$name" && is_running || fail "No cluster '$name' is running." 3
      kill -KILL "$(head -n 1 "$directory/data/postmaster.pid")"
      # The pid may belong to another process by the time of `stop`.
      rm "$directory/data/postmaster.pid"
      ;;
    status)
      if find_postgres && locate_cluster "$name" && is_running; then
        print_url
      else
        fail "No cluster '$name' is running." 3
      fi
      ;;
    *) usage ;;
  esac
}

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$1"
  exit "${2:-1}"
}

# --- PostgreSQL itself --------------------------------------------------------------------------

# Finds an installed PostgreSQL with pgvector. Sets `version`, and `root`: empty, or the bootstrapped system's directory.
find_postgres() {
  for root in "" "$cache/$release"; do
    for version in 18 17; do
      [[ -x $root/usr/lib/postgresql/$version/bin/postgres ]] || continue
      [[ -e $root/usr/share/postgresql/$version/extension/vector.control ]] && return
    done
  done
  return 1
}

provide_postgres() {
  local offered
  find_postgres && return
  ((EUID == 0)) || fail "PostgreSQL 17 with pgvector is not installed; this script can only do it as root."
  mkdir -p "$cache"
  # A file lock: concurrent runs wait for the first one, then find PostgreSQL installed.
  exec 9>"$cache/lock"
  flock 9
  if ! find_postgres; then
    apt-get update >&2 || say "Not all of apt's sources can be reached."
    offered=$(find_offered)
    if [[ -n $offered ]]; then install_packages "$offered" >&2; else bootstrap >&2; fi
    find_postgres || fail "PostgreSQL was installed, but pgvector cannot be found."
  fi
  exec 9>&-
}

# Prints the PostgreSQL version that the machine's Debian release offers together with pgvector, if any.
find_offered() {
  local candidate
  for candidate in 18 17; do
    if apt-cache show "postgresql-$candidate" "postgresql-$candidate-pgvector" >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

install_packages() {
  # By default Debian's package creates and starts a cluster when it is installed.
  apt_install postgresql-common
  sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  apt_install "postgresql-$1" "postgresql-$1-pgvector"
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# Bootstraps into a temporary directory and renames it at the end (atomic), so an interrupted run leaves nothing that
# looks complete.
bootstrap() {
  local partial=$cache/$release.partial mirror
  mirror=${PGQUIVER_MIRROR:-$(find_mirrors)}
  mirror=${mirror%%$'\n'*}
  [[ -n $mirror ]] || fail "No Debian mirror in this machine's apt sources; name one in PGQUIVER_MIRROR."
  command -v debootstrap >/dev/null || apt_install debootstrap
  say "Installing PostgreSQL 17 and pgvector into $cache/$release"
  rm -rf --one-file-system "$partial"
  isolated debootstrap --variant=minbase --include=postgresql-17,postgresql-17-pgvector \
    "$release" "$partial" "$mirror"
  rm -rf "$partial"/var/cache/apt/archives/*.deb "$partial"/var/lib/postgresql/17
  mkdir -p "$partial/srv/pgquiver"
  mv "$partial" "$cache/$release"
}

# Prints the machine's Debian mirrors. apt is asked because it reads both formats of source lists; a "mirror+file:" URI
# names a file that lists the mirrors.
find_mirrors() {
  local uri
  # shellcheck disable=SC2016 # expanded by apt, not by the shell
  apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Component: main' |
    while read -r uri; do
      if [[ $uri == mirror+file:* ]]; then uri=$(grep -om1 '^https\?:[^[:space:]]*' "${uri#mirror+file:}"); fi
      if [[ $uri =~ ^https?://.*/debian/?$ ]]; then echo "$uri"; fi
    done
}

# Runs a command in a private mount namespace: its mounts are invisible to others, and disappear with its last process,
# even if that is killed.
isolated() {
  if can_mount; then unshare --mount --propagation private "$@"; else "$@"; fi
}

can_mount() { unshare --mount true 2>/dev/null; }

# --- A cluster ----------------------------------------------------------------------------------

# Sets `directory`, the directory of an existing cluster or of a new one: in /dev/shm if there is enough memory.
locate_cluster() {
  local memory=/dev/shm/pgquiver-$EUID disk=$cache/clusters base
  # A bootstrapped PostgreSQL runs in a chroot: without bind mounts its data must be inside of that root.
  if [[ -n $root ]] && ! can_mount; then memory='' disk=$root/srv/pgquiver; fi
  if [[ ! -w /dev/shm ]]; then memory=''; fi
  for base in $memory "$disk"; do
    directory=$base/$1
    [[ ! -d $directory ]] || return 0
  done
  [[ -z $memory ]] || (($(df --output=avail -BM /dev/shm 2>/dev/null | tr -dc 0-9) + 0 < memory_needed_mb)) ||
    directory=$memory/$1
}

# Starts the existing cluster, or initialises an empty one; on its previous port if the port is free.
start_cluster() {
  if is_running; then
    print_url
    return
  fi
  make_directory
  [[ -e $directory/data/PG_VERSION ]] || initialise
  local port former
  former=$(sed -n 's/.*"-p" "\([0-9]*\)".*/\1/p' "$directory/data/postmaster.opts" 2>/dev/null || true)
  for port in $former $((20000 + RANDOM % 12000)) $((20000 + RANDOM % 12000)) $((20000 + RANDOM % 12000)); do
    ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue
    if postgres pg_ctl start --silent --wait --pgdata data --log log --options "-p $port" >&2; then
      print_url
      return
    fi
  done
  cat "$directory/log" >&2 || true
  fail "PostgreSQL did not start."
}

stop_cluster() {
  ! is_running || postgres pg_ctl stop --silent --wait --mode fast --pgdata data >&2
}

remove_cluster() {
  stop_cluster
  rm -rf "$directory"
}

is_running() {
  [[ -e $directory/data/postmaster.pid ]] && postgres pg_ctl status --pgdata data >/dev/null 2>&1
}

print_url() {
  printf 'postgresql://postgres@127.0.0.1:%s/postgres\n' "$(sed -n 4p "$directory/data/postmaster.pid")"
}

make_directory() {
  local owner=$EUID
  ((EUID != 0)) || owner=$(awk -F: '$1 == "postgres" { print $3 ":" $4 }' "$root/etc/passwd")
  mkdir -p "$directory"
  [[ -O ${directory%/*} ]] || fail "${directory%/*} belongs to someone else."
  chown "$owner" "$directory"
}

# A linguistic collation (ICU en-US), as in most databases: code that wrongly relies on byte order fails in tests.
initialise() {
  postgres initdb --pgdata data --username postgres --auth trust --encoding UTF8 --locale C.UTF-8 \
    --locale-provider icu --icu-locale en-US --no-instructions >/dev/null
  cat >>"$directory/data/postgresql.conf" <<-'END'
	listen_addresses = '127.0.0.1'
	unix_socket_directories = ''
	max_connections = 200
	END
}

# Runs a PostgreSQL program in the cluster's directory; as the user `postgres` when invoked by root.
postgres() {
  local program=/usr/lib/postgresql/$version/bin/$1
  shift
  if [[ -n $root ]]; then
    # shellcheck disable=SC2016 # the inner shells expand these
    isolated bash -c '
      if [[ $2 != "$1"/* ]]; then
        mount --bind "${2%/*}" "$1/srv/pgquiver"
        mount --bind /dev/shm "$1/dev/shm"
      fi
      exec chroot --userspec=postgres "$1" /bin/sh -c "cd /srv/pgquiver/${2##*/} && exec \"\$@\"" sh "${@:3}"
    ' bash "$root" "$directory" "$program" "$@"
  elif ((EUID == 0)); then
    (cd "$directory" && setpriv --reuid postgres --regid postgres --init-groups "$program" "$@")
  else
    (cd "$directory" && "$program" "$@")
  fi
}

main "$@"
