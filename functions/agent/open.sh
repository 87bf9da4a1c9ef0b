#!/bin/bash
# skytally's claim and bundle opener for images without Python 3: bash 3.1+, coreutils, openssl 1.0.2+, and curl to claim.
#
#   open.sh claim --base URL --claim-file FILE --payload FILE [--reporter FILE] [--vm NAME] [--ca FILE] [--patience SECONDS]
#   open.sh open --claim-file FILE --key FILE --bundle FILE --payload FILE [--reporter FILE] [--vm NAME]
#
# --claim-file holds the token CLAIM.EXPIRES.SECRET from the user-data, --vm is for several vms with one user-data. The payload and
# the reporter token (default: PAYLOAD.reporter) are written with mode 0600, and only after everything has been verified.
#
# Exit codes: 0 done; 2 usage; 3 refused, taken, or a bundle that does not verify: stop, tell the operator; 4 expired or revoked;
# 5 server away, try later; 6 this machine lacks something.
#
# Secrets stay in variables (as hex: bash cannot hold a zero byte), in pipes from builtins, and in files of a private folder in
# memory. They are never an argument of a program, where everybody could read them, and never in the environment.

set -u +x
export LC_ALL=C
umask 077

stop() { # exit code, sentence
    echo "skytally: $2" >&2
    { echo "skytally: $2" > "${SKYTALLY_CONSOLE:-/dev/console}"; } 2>/dev/null
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

# ---- ustar: exactly the named plain files, in this order ----

field() { # archive, offset, length: write a header field up to its zeros
    dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null | tr -d '\0'
}

checksum() { # archive, offset: write the sum of a header's bytes, its own checksum counted as blanks
    local sum=256 i=0 byte
    for byte in $(dd if="$1" bs=512 skip=$(($2 / 512)) count=1 2>/dev/null | od -An -v -tu1); do
        ((i < 148 || i > 155)) && sum=$((sum + byte))
        i=$((i + 1))
    done
    printf '%d' "$sum"
}

untar() { # archive, folder, names: split the archive into files
    local archive=$1 folder=$2 at=0 total name size sum
    shift 2
    total=$(wc -c < "$archive")
    for name in "$@"; do
        [ "$(field "$archive" "$at" 100)" = "$name" ] && [ -z "$(field "$archive" $((at + 345)) 155)" ] || return 1
        [[ "$(field "$archive" $((at + 156)) 1)" == [0]* ]] || return 1
        size=$(field "$archive" $((at + 124)) 12) sum=$(field "$archive" $((at + 148)) 7)
        [[ "$size$sum" =~ ^[0-7]+' '*$ ]] && [ "$((8#${sum// /}))" = "$(checksum "$archive" "$at")" ] || return 1
        size=$((8#$size))
        ((at + 512 + size <= total)) || return 1
        dd if="$archive" bs=512 skip=$((at / 512 + 1)) count=$(((size + 511) / 512)) 2>/dev/null | head -c "$size" > "$folder/$name"
        at=$((at + 512 + (size + 511) / 512 * 512))
    done
    [ -z "$(field "$archive" "$at" 512)" ]
}

# ---- opening ----

open_bundle() { # bundle, key file, folder: leave payload and reporter in the folder, or stop before anything is decrypted
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
        -pkeyopt rsa_mgf1_md:sha256 < "$folder/R.enc" > "$folder/R" 2>/dev/null || stop 3 "no match: R.enc is not for this key"
    prk=$(hmac "$(hex_of "$secret")" < "$folder/R") || exit
    mac_key=$(printf 'skytally/v1 mac %s\001' "$claim" | hmac "$prk") || exit
    same "$(hmac "$mac_key" < "$folder/manifest")." "$(cat "$folder/manifest.mac" | tr -d '\0')." &&
        [ "$(wc -c < "$folder/manifest.mac")" -eq 65 ] || stop 3 "MAC failure: the bundle is not from who made the token"
    password=$(printf 'skytally/v1 enc %s\001' "$claim" | hmac "$prk") || exit
    openssl enc -d -aes-256-ctr -md sha256 -pass fd:3 -in "$folder/P.enc" -out "$folder/plain" \
        3< <(printf '%s\n' "$password") 2>/dev/null || stop 3 "openssl cannot decrypt the payload"
    untar "$folder/plain" "$folder" payload reporter || stop 3 "the sealed archive does not hold payload and reporter"
}

keep() { # file, where it goes: whole or not at all
    cat "$1" > "$2.new" && mv -f "$2.new" "$2" || stop 6 "cannot write $2"
}

# ---- claiming ----

gzip_stored() { # ASCII text below 64 KiB: write it as gzip, stored (RFC 1951, 1952), as hex
    local text=$1 crc=0xffffffff i bit byte size=${#1}
    printf '1f8b08000000000000ff01%02x%02x%02x%02x' $((size & 255)) $((size >> 8)) $((~size & 255)) $((~size >> 8 & 255))
    for ((i = 0; i < size; i++)); do
        printf -v byte '%d' "'${text:i:1}"
        printf '%02x' "$byte"
        crc=$((crc ^ byte))
        for bit in 1 2 3 4 5 6 7 8; do crc=$((crc >> 1 ^ (0xedb88320 & -(crc & 1)))); done
    done
    crc=$((crc ^ 0xffffffff))
    for byte in $crc $size; do printf '%02x%02x%02x%02x' $((byte & 255)) $((byte >> 8 & 255)) $((byte >> 16 & 255)) $((byte >> 24 & 255)); done
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

take_bundle() { # key file, folder: leave the bundle in the folder; the same key serves every retry
    local public proof body status delay=1 until=$((SECONDS + patience))
    command -v curl > /dev/null || stop 6 "there is no curl to claim with"
    public=$(public_key "$1") || exit
    proof=$(printf '%s' "skytally/v1 claim|$claim|$(printf '%s' "$public" | sha256)${vm:+|$vm}" | hmac "$(hex_of "$secret")") || exit
    body="claim=$claim&expires=$expires&public_key=$(percent "$public")&proof=$proof${vm:+&vm=$(percent "$vm")}"
    while :; do
        status=$(printf '%s' "$body" | curl --silent --data-binary @- --max-time 60 --connect-timeout 20 ${ca:+--cacert "$ca"} \
            --output "$2/bundle" --write-out '%{http_code}' "${base%/}/function/secret_claim")
        case $status in
            200) return ;;
            410) stop 4 "secret_claim: 410 $(head -c 300 "$2/bundle")" ;;
            404 | 408 | 429 | 000 | '' | 3* | 5*) ;;
            *) stop 3 "secret_claim: $status $(head -c 300 "$2/bundle")" ;;
        esac
        ((SECONDS + delay < until)) || stop 5 "secret_claim: ${status:-no answer}, try later"
        sleep "$delay"
        delay=$((delay < 30 ? delay * 2 : 60))
    done
}

# ---- the command line ----

verb=${1-} base= claim_file= payload= reporter= vm= ca= key= bundle= patience=120
[ "$#" -gt 0 ] && shift
while [ "$#" -gt 0 ]; do
    case $1 in
        --base) base=${2-} ;; --claim-file) claim_file=${2-} ;; --payload) payload=${2-} ;; --reporter) reporter=${2-} ;;
        --vm) vm=${2-} ;; --ca) ca=${2-} ;; --key) key=${2-} ;; --bundle) bundle=${2-} ;; --patience) patience=${2-} ;;
        *) stop 2 "unknown option $1; see the head of this file" ;;
    esac
    shift $(($# > 1 ? 2 : 1))
done
case $verb in
    claim) [ -n "$base" ] ;;
    open) [ -n "$key" ] && [ -n "$bundle" ] ;;
    *) false ;;
esac && [ -n "$claim_file" ] && [ -n "$payload" ] || stop 2 "usage: open.sh claim|open …; see the head of this file"
[ -r "$claim_file" ] || stop 6 "cannot read $claim_file"
command -v openssl > /dev/null || stop 6 "there is no openssl"

read -r token < "$claim_file" || [ -n "${token-}" ] || stop 2 "the claim file is empty"
[[ "$token" =~ ^([a-z0-9]+)[.]([0-9]+)[.]([0-9a-f]+)$ ]] || stop 2 "the claim file holds no token CLAIM.EXPIRES.SECRET"
claim=${BASH_REMATCH[1]} expires=${BASH_REMATCH[2]} secret=${BASH_REMATCH[3]}
[ "${#secret}" -eq 64 ] || stop 2 "the claim file holds no token CLAIM.EXPIRES.SECRET"

for place in /dev/shm /run ""; do [ -n "$place" ] && [ -d "$place" ] && [ -w "$place" ] && break; done
[ -n "$place" ] || stop 6 "neither /dev/shm nor /run can be written: keys are kept in memory only"
work=$(mktemp -d "$place/skytally-XXXXXXXX") || stop 6 "cannot make a folder in $place"
trap 'rm -rf "$work"' EXIT
trap 'exit 143' INT TERM

if [ "$verb" = claim ]; then
    : > "$payload.new" || stop 6 "cannot write $payload" # what cannot be kept must not be claimed
    key=$work/key.pem bundle=$work/bundle
    openssl genrsa -out "$key" 3072 2>/dev/null || stop 6 "openssl cannot make a key"
    take_bundle "$key" "$work"
fi
open_bundle "$bundle" "$key" "$work"
keep "$work/payload" "$payload"
keep "$work/reporter" "${reporter:-$payload.reporter}"
