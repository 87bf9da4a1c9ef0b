#!/bin/bash
# skytally's claim and bundle opener for images without Python 3.
# Needs bash 3.1+, coreutils, openssl 1.0.2+, and curl to claim.
#
#   open.sh claim --base URL --claim-file FILE --payload FILE [--reporter FILE] [--vm NAME] [--ca FILE]
#                 [--patience SECONDS] [--insecure yes: let an http:// URL be another machine's]
#   open.sh open --claim-file FILE --key FILE --bundle FILE --payload FILE [--reporter FILE] [--vm NAME]
#
# --claim-file holds the token CLAIM.EXPIRES.SECRET from the user-data, --vm is for several vms with one user-data. The
# payload and the reporter token (default: PAYLOAD.reporter) are written with mode 0600, and only after everything has
# been verified.
#
# Where the payload is a tar, --unpack DIR --reporter FILE [--mode 0600] [--owner USER[:GROUP]] in place of --payload
# writes its files into a folder: all of them or, whatever fails, none; the folder's other files stay.
#
# A claim that is not answered, or an answer that cannot be put in place, is gone on with by the next call: key and
# bundle stay in memory until then. Once the secret is taken or refused, the claim file is emptied.
#
# Exit codes: 0 done; 2 usage; 3 refused, taken, or a bundle that does not verify: stop, tell the operator;
# 4 expired or revoked; 5 server away, try later; 6 this machine lacks something.
#
# Secrets stay in variables (as hex: bash cannot hold a zero byte), in pipes from builtins, and in files of a private
# folder in memory. They are never an argument of a program, where everybody could read them, and never in the
# environment.

set -u +x
export LC_ALL=C
umask 077

judged= # whether the claim is over: the secret is in its place, or refused for good
proxy=  # whether the last no was somebody's between us and the server

stop() { # exit code, sentence: the only way by which words of others reach a terminal, so it prints ASCII letters only
    local sentence
    case $1$proxy in 3 | 4) judged=1 ;; esac
    sentence=$(printf '%s' "$2" | tr -c ' -~' '?' | head -c 600)
    echo "skytally: $sentence" >&2
    { echo "skytally: $sentence" > "${SKYTALLY_CONSOLE:-/dev/console}"; } 2>/dev/null
    exit "$1"
}

# ---- bytes ----

bytes() { # hex: write the bytes
    local hex=$1 escaped= i
    for ((i = 0; i < ${#hex}; i += 2)); do escaped+="\\x${hex:i:2}"; done
    printf "$escaped"
}

hex_of() { # ASCII text: write it as hex
    local text=$1 i
    for ((i = 0; i < ${#text}; i++)); do printf '%02x' "'${text:i:1}"; done
}

sha256() { # stdin: write the digest as hex
    local line
    line=$(openssl dgst -sha256) || stop 6 "openssl dgst does not work"
    printf '%s' "${line##* }"
}

hmac() { # key of up to 64 bytes as hex; message on stdin: write HMAC-SHA256 as hex
    local key=$1 inner= outer= pad i
    printf -v pad '%0128d' 0
    key=${key}${pad:${#key}}
    for ((i = 0; i < 128; i += 2)); do
        printf -v pad '%02x' $((16#${key:i:2} ^ 0x36)); inner+=$pad
        printf -v pad '%02x' $((16#${key:i:2} ^ 0x5c)); outer+=$pad
    done
    inner=$({ bytes "$inner"; cat; } | sha256) || exit 6
    { bytes "$outer"; bytes "$inner"; } | sha256
}

same() { # two texts: compared by their digests, so that time tells nothing
    [ "$(printf '%s' "$1" | sha256)" = "$(printf '%s' "$2" | sha256)" ]
}

# ---- tar: read here, since nothing is proven of a bundle yet; nothing gets larger than the archive that it is in ----

text() { # variable, hex: set the variable to the bytes before the first zero
    local escaped= i
    for ((i = 0; i < ${#2}; i += 2)); do
        [ "${2:i:2}" = 00 ] && break
        escaped+="\\x${2:i:2}"
    done
    printf -v "$1" "$escaped"
}

member() { # archive, block, bytes of the archive: set name, kind, size and the block behind a member, or an empty kind
    # where zeros or nothing say that no more come; false for a member that is unsound or cut short
    local hex digits sum=256 i octal='^ *([0-7]{1,12}) *$' prefix=
    kind=
    hex=$(dd if="$1" bs=512 skip="$2" count=1 2>/dev/null | od -An -v -tx1 | tr -d ' \n')
    [ -n "${hex//0/}" ] || return 0
    ((${#hex} == 1024)) || return 1
    for ((i = 0; i < 512; i++)); do ((i < 148 || i > 155)) && sum=$((sum + 16#${hex:i * 2:2})); done
    text digits "${hex:296:16}"
    [[ $digits =~ $octal ]] && ((8#${BASH_REMATCH[1]} == sum)) || return 1
    text digits "${hex:248:24}"
    [[ $digits =~ $octal ]] || return 1
    kind=${hex:312:2} size=$((8#${BASH_REMATCH[1]})) behind=$(($2 + 1 + (size + 511) / 512))
    [ "${hex:514:12}" = 757374617200 ] && text prefix "${hex:690:310}"
    text name "${hex:0:200}"
    name=${prefix:+$prefix/}$name
    ((($2 + 1) * 512 + size <= $3))
}

content() { # archive, block of the header, size: write a member's bytes
    dd if="$1" bs=512 skip=$(($2 + 1)) count=$((($3 + 511) / 512)) 2>/dev/null | head -c "$3"
}

untar() { # archive, folder, names: split an archive of exactly these plain files, in this order
    local archive=$1 folder=$2 block=0 total wanted name kind size behind
    total=$(wc -c < "$archive")
    shift 2
    for wanted in "$@"; do
        member "$archive" "$block" "$total" && [[ $kind == 30 || $kind == 00 ]] && [ "$name" = "$wanted" ] || return 1
        content "$archive" "$block" "$size" > "$folder/$name"
        block=$behind
    done
    member "$archive" "$block" "$total" && [ -z "$kind" ]
}

pax_path() { # records of a pax header: set long to the path in it; false for unsound ones, and for a sparse file's
    local records=$1 head=$'^([0-9]{1,9}) ([^=\n]+)=' length start
    while [ -n "$records" ]; do
        [[ $records =~ $head ]] || return 1
        length=$((10#${BASH_REMATCH[1]})) start=${#BASH_REMATCH[0]}
        ((start < length && length <= ${#records})) && [ "${records:length - 1:1}" = $'\n' ] || return 1
        case ${BASH_REMATCH[2]} in
            size | GNU.sparse*) return 1 ;;
            path) long=${records:start:length - 1 - start} ;;
        esac
        records=${records:length}
    done
}

# ---- unpacking ----
# Nothing is renamed before all new files lie whole in a private folder on the same file system (N.new), and each file
# that one of them replaces has a second link there (N.old), by which it is put back where a later step fails. No link
# below the folder is followed: each folder is entered by its name and must then be where it was looked for. A kill or a
# power cut between two renames leaves files that are each whole, some new and some old, and the private folder, which
# the next call removes.

paths=() moved=0 stage= top=

list_members() { # archive: set paths, blocks and sizes of its files, and its folders; stops for anything else
    local block=0 total name kind size behind long= part path
    local unsound="the payload is not unpacked: not a sound tar of plain files"
    total=$(wc -c < "$1")
    ((total >= 512)) || stop 3 "$unsound"
    while member "$1" "$block" "$total" || stop 3 "$unsound"; do
        [ -n "$kind" ] || break
        ((${#paths[@]} + ${#folders[@]} < 1000)) || stop 3 "$unsound"
        case $kind in
            4c | 78 | 67) # a long name, a pax header, one for all members
                ((size <= 65536)) || stop 3 "$unsound"
                text part "$(content "$1" "$block" "$size" | od -An -v -tx1 | tr -d ' \n')"
                case $kind in
                    4c) long=$part ;;
                    78) pax_path "$part" || stop 3 "$unsound" ;;
                    67) (long=; pax_path "$part" && [ -z "$long" ]) || stop 3 "$unsound" ;;
                esac
                ;;
            30 | 00 | 35)
                name=${long:-$name} path= long=
                [[ /$name/ == */../* || $name == /* || $name == *[[:cntrl:]]* || -z $name ]] || ((${#name} > 1000)) &&
                    stop 3 "the payload is not unpacked: it holds the name $name"
                while IFS= read -r -d / part; do
                    [ -z "$part" ] || [ "$part" = . ] || path=${path:+$path/}$part
                done <<< "$name/"
                if [ "$kind" = 35 ] || [ "${name: -1}" = / ]; then
                    folders+=("$path")
                else
                    paths+=("$path") blocks+=("$block") sizes+=("$size")
                fi
                ;;
            *) stop 3 "$unsound" ;;
        esac
        block=$behind
    done
}

enter() { # folder, path: go to the folder at this path below it, making what is missing; a link on the way is an error
    local part here
    cd -P "$1" 2>/dev/null && here=$PWD || return 1
    while IFS= read -r -d / part; do
        [ -z "$part" ] && continue
        mkdir -m 755 "./$part" 2>/dev/null && printf '%s\n' "${here#"$1"}/$part" >> "$stage/made"
        here=${here%/}/$part
        cd -P "./$part" 2>/dev/null && [ "$PWD" = "$here" ] || return 1
    done <<< "$2/"
}

folder_of() { # path: write it without its last name
    case $1 in */*) printf '%s' "${1%/*}" ;; esac
}

put_back() { # undo what was renamed, and remove the folders that were made
    local n path
    for ((n = 0; n < moved; n++)); do
        (
            enter "$top" "$(folder_of "${paths[n]}")" || exit
            if [ -e "$stage/$n.old" ] || [ -L "$stage/$n.old" ]; then
                mv -fT "$stage/$n.old" "./${paths[n]##*/}"
            else
                rm -f "./${paths[n]##*/}"
            fi
        ) 2>/dev/null
    done
    moved=0
    [ -z "$stage" ] || [ ! -e "$stage/made" ] || tac "$stage/made" | while IFS= read -r path; do
        (enter "$top" "$(folder_of "${path#/}")" && rmdir "./${path##*/}") 2>/dev/null
    done
}

unpack() { # archive, folder, mode, owner: write a tar's files into a folder, all of them or none
    local root base n why="the payload is not unpacked, $2 is as it was"
    local -a blocks=() sizes=() folders=()
    list_members "$1"
    root=$(readlink -m "$2") && base=$root
    [ -d "$root" ] || base=$(dirname "$root")
    { [ "$base" = "$root" ] || [ ! -e "$root" ]; } && mkdir -p "$base" || stop 6 "$why: it is no folder"
    rm -rf "$base/.${root##*/}.skytally-"* "$(dirname "$root")/.${root##*/}.skytally-"*
    stage=$(mktemp -d "${base%/}/.${root##*/}.skytally-XXXXXXXX") || stop 6 "$why: cannot write there"
    for ((n = 0; n < ${#paths[@]}; n++)); do
        content "$1" "${blocks[n]}" "${sizes[n]}" > "$stage/$n.new" &&
            [ "$(wc -c < "$stage/$n.new")" -eq "${sizes[n]}" ] &&
            { [ -z "$4" ] || chown "$4" "$stage/$n.new"; } &&
            chmod "$3" "$stage/$n.new" || stop 6 "$why: cannot write there"
    done
    sync
    top=$root
    [ "$base" = "$root" ] || { top=$stage/whole && mkdir -m 755 "$top"; } || stop 6 "$why: cannot write there"
    for ((n = 0; n < ${#folders[@]}; n++)); do
        (enter "$top" "${folders[n]}") || stop 6 "$why: ${folders[n]} is no folder"
    done
    for ((n = 0; n < ${#paths[@]}; n++)); do
        (
            enter "$top" "$(folder_of "${paths[n]}")" || exit
            [ ! -e "./${paths[n]##*/}" ] && [ ! -L "./${paths[n]##*/}" ] || ln -P "./${paths[n]##*/}" "$stage/$n.old"
        ) 2>/dev/null || stop 6 "$why: ${paths[n]} cannot be replaced"
    done
    for ((n = 0; n < ${#paths[@]}; n++)); do
        moved=$((n + 1))
        (enter "$top" "$(folder_of "${paths[n]}")" && mv -fT "$stage/$n.new" "./${paths[n]##*/}") 2>/dev/null ||
            stop 6 "$why: ${paths[n]} cannot be written"
    done
    [ "$top" = "$root" ] || mv -T "$top" "$root" 2>/dev/null || stop 6 "$why: cannot write there"
    moved=0
    rm -f "$stage/made"
    sync
}

# ---- opening ----

open_bundle() { # bundle, key file, folder: leave payload and reporter in the folder, or stop with nothing decrypted
    local bundle=$1 key=$2 folder=$3 manifest prk mac_key password
    untar "$bundle" "$folder" manifest manifest.mac R.enc P.enc || stop 3 "no match: not the four members of a bundle"
    manifest=$(
        printf 'v=1\nclaim=%s\nexp=%s\n' "$claim" "$expires"
        [ -z "$vm" ] || printf 'vm=%s\n' "$vm"
        printf 'spki_sha256=%s\n' "$(openssl rsa -in "$key" -pubout -outform DER 2>/dev/null | sha256)"
        printf 'R_sha256=%s\nP_sha256=%s\n.' "$(sha256 < "$folder/R.enc")" "$(sha256 < "$folder/P.enc")"
    )
    [ "$(printf '%s' "${manifest%.}" | sha256)" = "$(sha256 < "$folder/manifest")" ] ||
        stop 3 "no match: the bundle is for another claim or key, or was changed"
    openssl pkeyutl -decrypt -inkey "$key" -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 \
        -pkeyopt rsa_mgf1_md:sha256 < "$folder/R.enc" > "$folder/R" 2>/dev/null ||
        stop 3 "no match: R.enc is not for this key"
    prk=$(hmac "$(hex_of "$secret")" < "$folder/R") || exit
    mac_key=$(printf 'skytally/v1 mac %s\001' "$claim" | hmac "$prk") || exit
    same "$(hmac "$mac_key" < "$folder/manifest")." "$(cat "$folder/manifest.mac" | tr -d '\0')." &&
        [ "$(wc -c < "$folder/manifest.mac")" -eq 65 ] ||
        stop 3 "MAC failure: the bundle is not from who made the token"
    password=$(printf 'skytally/v1 enc %s\001' "$claim" | hmac "$prk") || exit
    openssl enc -d -aes-256-ctr -md sha256 -pass fd:3 -in "$folder/P.enc" -out "$folder/plain" \
        3< <(printf '%s\n' "$password") 2>/dev/null || stop 3 "openssl cannot decrypt the payload"
    untar "$folder/plain" "$folder" payload reporter || stop 3 "the sealed archive does not hold payload and reporter"
}

stage_file() { # file, where it goes: write it beside that, following no link
    rm -f "$2.new" && (set -C && cat "$1" > "$2.new") 2>/dev/null || stop 6 "cannot write $2"
}

keep() { # where a staged file goes: whole or not at all
    mv -fT "$1.new" "$1" 2>/dev/null || stop 6 "cannot write $1"
}

# ---- claiming ----

gzip_stored() { # ASCII text below 64 KiB: write it as gzip, stored (RFC 1951, 1952), as hex
    local text=$1 crc=0xffffffff i bit byte size=${#1}
    printf 1f8b08000000000000ff01
    printf '%02x' $((size & 255)) $((size >> 8)) $((~size & 255)) $((~size >> 8 & 255))
    for ((i = 0; i < size; i++)); do
        printf -v byte '%d' "'${text:i:1}"
        printf '%02x' "$byte"
        crc=$((crc ^ byte))
        for bit in 1 2 3 4 5 6 7 8; do crc=$((crc >> 1 ^ (0xedb88320 & -(crc & 1)))); done
    done
    crc=$((crc ^ 0xffffffff))
    for byte in $crc $size; do
        printf '%02x' $((byte & 255)) $((byte >> 8 & 255)) $((byte >> 16 & 255)) $((byte >> 24 & 255))
    done
}

public_key() { # key file: write base64(gzip(ssh-rsa line)), RFC 4253 6.6
    local modulus blob
    modulus=$(openssl rsa -in "$1" -noout -modulus 2>/dev/null) || stop 6 "openssl rsa does not work"
    modulus=00${modulus#*=}
    printf -v blob '%s%08x%s' 000000077373682d72736100000003010001 $((${#modulus} / 2)) "$modulus"
    blob=$(bytes "$blob" | base64 | tr -d '\n')
    bytes "$(gzip_stored "ssh-rsa $blob ${HOSTNAME//[^!-~]/?}"$'\n')" | base64 | tr -d '\n'
}

percent() { # text: write it for a form
    local text=$1 i
    for ((i = 0; i < ${#text}; i++)); do printf '%%%02X' $(($(printf '%d' "'${text:i:1}") & 255)); done
}

header() { # name in small letters, headers: write the header's value
    tr -d '\r' < "$2" | tr 'A-Z' 'a-z' | sed -n "s/^$1:[ \t]*//p" | tail -n 1
}

retry_after() { # headers: write the seconds of Retry-After, a number or an HTTP date by the server's clock: 120 at most
    local after until now
    after=$(header retry-after "$1")
    if [[ ! $after =~ ^[0-9]+$ ]]; then
        now=$(header date "$1")
        [ -n "$after" ] && until=$(date -d "$after" +%s 2>/dev/null) &&
            now=$(date -d "${now:-now}" +%s 2>/dev/null) || until=0 now=0
        after=$((until > now ? until - now : 0))
    fi
    [ "${#after}" -lt 4 ] && ((10#$after < 120)) || after=120
    echo "$((10#$after))"
}

begin_of() { # process: write when it began, in the kernel's ticks; numbers of processes come again, with another begin
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) && read -ra stat <<< "${stat##*)}" || return
    [ "${stat[0]}" != Z ] && echo "${stat[19]}"
}

is_bundle() { # file: say whether it begins as bundles do, and is no page of somebody between us and the server
    [ "$(head -c 8 "$1" | tr -d '\0')" = manifest ]
}

take_bundle() { # key file, folder: leave the bundle in the folder
    # Patience counts from the last answer, and ends after four times that.
    local public proof body status asked wait ended= delay=1 begun=$SECONDS answered=$SECONDS
    command -v curl > /dev/null || stop 6 "there is no curl to claim with"
    public=$(public_key "$1") || exit
    proof=$(printf '%s' "skytally/v1 claim|$claim|$(printf '%s' "$public" | sha256)${vm:+|$vm}" |
        hmac "$(hex_of "$secret")") || exit
    body="claim=$claim&expires=$expires&public_key=$(percent "$public")&proof=$proof${vm:+&vm=$(percent "$vm")}"
    while :; do
        : > "$2/headers"
        proxy=
        trap 'ended=143' INT TERM HUP # an answer that came is not thrown away
        status=$(
            trap '' XFSZ # no answer is larger than 4 MiB
            ulimit -f 4096
            printf '%s' "$body" | curl --silent --data-binary @- --max-time 60 --connect-timeout 20 \
                --dump-header "$2/headers" ${ca:+--cacert "$ca"} --output "$2/answer" --write-out '%{http_code}' "$url"
        ) && answered=$SECONDS || status=000
        grep -Eq '"error" *: *\{ *"code" *: *"' "$2/answer" 2>/dev/null || proxy=yes
        case $status in
            200)
                is_bundle "$2/answer" && mv -f "$2/answer" "$2/bundle" && [ -z "$ended" ] &&
                    trap 'exit 143' INT TERM HUP && proxy= && return
                ;;
            410) stop 4 "secret-claim: 410 $(head -c 400 "$2/answer" | tr -d '\0')" ;;
            404 | 408 | 429 | 000 | '' | 3* | 5*) ;;
            *) stop 3 "secret-claim: $status $(head -c 400 "$2/answer" | tr -d '\0')" ;;
        esac
        [ -z "$ended" ] || exit "$ended"
        trap 'exit 143' INT TERM HUP
        asked=$(retry_after "$2/headers")
        wait=$((asked + asked * (RANDOM % 26) / 100 + 1 + RANDOM % delay))
        ((SECONDS + wait <= answered + asked + patience && SECONDS + wait <= begun + 4 * patience)) ||
            stop 5 "secret-claim: ${status:-no answer}, try later"
        sleep "$wait"
        delay=$((delay < 30 ? delay * 2 : 60))
    done
}

clean() { # remove what is no use any more; the key and the bundle of a claim that nobody judged serve the next call
    local file
    put_back
    rm -rf ${stage:+"$stage"} "$reporter.new" ${payload:+"$payload.new"}
    if [ "$verb" = claim ] && [ -z "$judged" ]; then
        for file in "$work"/*; do
            case ${file##*/} in key.pem | bundle) ;; *) rm -f "$file" ;; esac
        done
        return
    fi
    # The token is worth nothing now, and no other key asks with it.
    [ "$verb" = open ] || { : > "$claim_file"; } 2>/dev/null
    rm -rf "$work"
}

# ---- the command line ----

verb=${1-} base= claim_file= payload= reporter= vm= ca= key= bundle= patience=120 unpack= mode=0600 owner= insecure=
[ "$#" -gt 0 ] && shift
while [ "$#" -gt 0 ]; do
    case $1 in
        --base) base=${2-} ;; --claim-file) claim_file=${2-} ;; --payload) payload=${2-} ;;
        --reporter) reporter=${2-} ;; --vm) vm=${2-} ;; --ca) ca=${2-} ;; --key) key=${2-} ;;
        --bundle) bundle=${2-} ;; --patience) patience=${2-} ;; --unpack) unpack=${2-} ;; --mode) mode=${2-} ;;
        --owner) owner=${2-} ;; --insecure) insecure=${2-} ;;
        *) stop 2 "unknown option $1; see the head of this file" ;;
    esac
    shift $(($# > 1 ? 2 : 1))
done
case $verb in
    claim) [ -n "$base" ] ;;
    open) [ -n "$key" ] && [ -n "$bundle" ] ;;
    *) false ;;
esac && [ -n "$claim_file" ] && [ -n "${unpack:+$reporter}$payload" ] ||
    stop 2 "usage: open.sh claim|open --option VALUE ...; see the head of this file"
here='^http://(localhost|127[0-9.]+|\[::1\])(:[0-9]+)?(/|$)'
[ "$verb" = open ] || [[ "$base" =~ ^https://[^/] || "$base" =~ $here || "${insecure:+$base}" =~ ^http://[^/] ]] ||
    stop 2 "give --base https://..., or --insecure yes with http, not $base"
case $base in
    *'{function}'*) url=${base//'{function}'/secret-claim} ;;
    *) url=${base%/}/function/secret-claim ;;
esac
[[ $patience =~ ^[0-9]{1,9}$ ]] || stop 2 "--patience is a number of seconds"
reporter=${reporter:-$payload.reporter}
[ -r "$claim_file" ] || stop 6 "cannot read $claim_file"
command -v openssl > /dev/null || stop 6 "there is no openssl"

read -r token < "$claim_file" || [ -n "${token-}" ] || stop 2 "the claim file is empty"
token=${token%$'\r'} # user-data that Windows wrote
[[ "$token" =~ ^([a-z0-9]+)[.]([0-9]+)[.]([0-9a-f]+)$ ]] || stop 2 "the claim file holds no token CLAIM.EXPIRES.SECRET"
claim=${BASH_REMATCH[1]} expires=${BASH_REMATCH[2]} secret=${BASH_REMATCH[3]}
[ "${#secret}" -eq 64 ] || stop 2 "the claim file holds no token CLAIM.EXPIRES.SECRET"

for place in /dev/shm /run ""; do [ -n "$place" ] && [ -d "$place" ] && [ -w "$place" ] && break; done
[ -n "$place" ] || stop 6 "neither /dev/shm nor /run can be written: keys are kept in memory only"
work=$place/skytally-$(printf '%s %s' "$verb" "$token" | sha256 | head -c 32)
mkdir -m 700 "$work" 2>/dev/null || { [ -d "$work" ] && [ ! -L "$work" ] && [ -O "$work" ]; } ||
    stop 6 "$work is not ours"
(set -C && echo "$$ $(begin_of $$)" > "$work/process") 2>/dev/null || {
    read -r other begun < "$work/process"
    [ -z "${begun-}" ] || [ "$(begin_of "$other")" != "$begun" ] || stop 6 "process $other is at this claim: let it end"
    echo "$$ $(begin_of $$)" > "$work/process"
}
trap clean EXIT
trap 'exit 143' INT TERM HUP

if [ "$verb" = claim ]; then
    stage_file /dev/null "$reporter" # what cannot be kept must not be claimed
    [ -n "$unpack" ] || stage_file /dev/null "$payload"
    key=$work/key.pem bundle=$work/bundle
    [ -e "$key" ] || { openssl genrsa 3072 2>/dev/null > "$key.new" && mv -f "$key.new" "$key"; } ||
        stop 6 "openssl cannot make a key"
    [ -e "$bundle" ] || take_bundle "$key" "$work"
fi
open_bundle "$bundle" "$key" "$work"
stage_file "$work/reporter" "$reporter"
if [ -n "$unpack" ]; then
    unpack "$work/payload" "$unpack" "$mode" "$owner"
else
    stage_file "$work/payload" "$payload"
    keep "$payload"
fi
keep "$reporter"
judged=1
