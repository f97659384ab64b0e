"""Completions for bash, zsh and fish, out of the tables that parse the command line.  `completion.py SHELL` prints one."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import commandline
from commandline import COMMANDS, Command, Flag, consumes, signature, values
from commandline import places as places_of

from dolium.cli import images

NAMES = "--format '{{.Names}}' 2>/dev/null"
NETWORKS = "--format 'container:{{.Names}}' 2>/dev/null"
IMAGES = "--filter dangling=false --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"
GENERAL = ("--help", "--version")

BASH = r"""# bash completion of dolium; made by make/completion.py, needs no bash-completion package

_dolium_answer() { # TEXT WORD...
    local text=$1 word
    shift
    for word; do
        [[ $word == "$text"* && $word != *"<none>"* ]] && COMPREPLY+=("$word")
        [[ $word == *[=:] ]] && compopt -o nospace
    done
}

_dolium_is() { # PROGRAM KIND TEXT WORD...
    local program=$1 kind=$2 text=$3 word
    shift 3
    case $kind in
    words) _dolium_answer "$text" "$@" ;;
    files | roots | copies)
        [[ $kind == roots ]] && _dolium_answer "$text" "$@" $("$program" images @IMAGES@)
        [[ $kind == copies ]] && _dolium_answer "$text" $("$program" ps -a --format '{{.Names}}:' 2>/dev/null)
        [[ ${COMPREPLY[*]} == *:* ]] || compopt -o filenames # which would put a backslash before the colon
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$text") ;;
    devices)
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "${text:-/dev/}") ;;
    variables) while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -v -- "$text") ;;
    program) while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -c -- "$text") ;;
    containers) _dolium_answer "$text" $("$program" ps -a @NAMES@) ;;
    images) _dolium_answer "$text" $("$program" images @IMAGES@) ;;
    networks) _dolium_answer "$text" "$@" $("$program" ps @NETWORKS@) ;;
    running) _dolium_answer "$text" $("$program" ps @NAMES@) ;;
    esac
}

_dolium() {
    local line=${COMP_LINE:0:COMP_POINT} at=2 count=0 ended= pending= word rest letter
    local -a words flags takes
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local program=${words[0]/#\~/$HOME} command=${words[1]} text=${words[${#words[@]} - 1]} leading=
    COMPREPLY=()
    if ((${#words[@]} <= 2)); then
        _dolium_answer "$text" @COMMANDS@
        return
    fi
    if [[ $command == image && ${#words[@]} -gt 3 ]]; then
        at=3
        case ${words[2]} in
@SECOND@
        *) return ;;
        esac
    fi
    case $command in
@TABLES@
    *) return ;;
    esac
    for ((; at < ${#words[@]} - 1; at++)); do
        word=${words[at]}
        if [[ -n $pending ]]; then
            pending=
        elif [[ -n $ended || $word != -?* ]]; then
            count=$((count + 1))
            ended=$ended$leading
        elif [[ $word == -- ]]; then
            ended=1
        elif [[ $word == --* ]]; then
            [[ " ${takes[*]} " == *" $word "* ]] && pending=$word
        else
            rest=${word:1}
            while [[ -n $rest ]]; do
                letter=-${rest:0:1} rest=${rest:1}
                if [[ " ${takes[*]} " == *" $letter "* ]]; then
                    [[ -z $rest ]] && pending=$letter
                    break
                fi
            done
        fi
    done
    if [[ -z $pending && -z $ended && $text == --*=* ]]; then
        pending=${text%%=*} text=${text#*=}
    fi
    if [[ -n $pending ]]; then
        case $command$pending in
@VALUES@
        esac
    elif [[ -z $ended && $text == -* ]]; then
        _dolium_answer "$text" "${flags[@]}"
    else
        case $command$count in
@PLACES@
        esac
    fi
    # Readline replaces what follows the last character of COMP_WORDBREAKS only.
    if [[ $text == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${text%"${text##*:}"}"}")
    elif [[ $text == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${text%"${text##*=}"}"}")
    fi
}

complete -F _dolium dolium
"""


def bash() -> str:
    tables, given, stands = [], [], []
    for found in commandline.all_tables():
        rows = found.flags()
        flags = " ".join(name for flag in rows for name in signature(flag) if name.startswith("--"))
        takes = " ".join(name for flag in rows if consumes(flag) for name in signature(flag))
        name = found.name.replace(" ", "-")
        tables.append(f"    {name}) flags=({flags}) takes=({takes}){' leading=1' if found.leading else ''} ;;")
        for flag in rows:
            kind, words = values(flag)
            if kind:
                pattern = " | ".join(name + each for each in signature(flag))
                given.append(f'        {pattern}) _dolium_is "$program" {kind} "$text"{quoted(words)} ;;')
        for number, kind, words, last in standing(found):
            pattern = f"{name}{number}" if number == last else f"{name}[0-9]*"
            if kind:
                stands.append(f'        {pattern}) _dolium_is "$program" {kind} "$text"{quoted(words)} ;;')
    return filled(BASH, COMMANDS=quoted((*COMMANDS, *GENERAL))[1:], TABLES="\n".join(tables), VALUES="\n".join(given),
                  PLACES="\n".join(stands), SECOND=second("        {}) command={} ;;"))  # fmt: skip


def filled(text: str, **parts: str) -> str:
    """A script with these parts in it, and the words that ask dolium what there is."""
    for name, part in {**parts, "NAMES": NAMES, "NETWORKS": NETWORKS, "IMAGES": IMAGES}.items():
        text = text.replace(f"@{name}@", part)
    return text


def second(line: str) -> str:
    """A line for each command of `dolium image`: which one it is, of those that have tables."""
    own = {name: f"image-{name}" for name in images.OWN}
    return "\n".join(line.format(*each) for each in (own | images.SECOND).items())


def standing(found: Command) -> "list[tuple[int, str, tuple[str, ...], int]]":
    """(number, kind, words, the last number of which this holds) of the words that are no flags."""
    places = places_of(found)
    goes_on = found.usage.endswith("...") or places[-1:] == [("program", ())]
    last = len(places) - 1
    return [(number, *place, 99 if goes_on and number == last else number) for number, place in enumerate(places)]


def quoted(words: "tuple[str, ...]") -> str:
    return "".join(f" {word}" if word.replace("-", "").replace("_", "").isalnum() else f" '{word}'" for word in words)


ZSH = r"""#compdef dolium
# zsh completion of dolium; made by make/completion.py

_dolium_containers() { local -a names=(${(f)"$($service ps -a @NAMES@)"}); compadd -a names }
_dolium_running() { local -a names=(${(f)"$($service ps @NAMES@)"}); compadd -a names }
_dolium_images() { local -a names=(${${(f)"$($service images @IMAGES@)"}:#*<none>*}); compadd -a names }
_dolium_networks() { local -a names=(${(f)"$($service ps @NETWORKS@)"}); compadd -S "" -- "$@"; compadd -a names }
_dolium_copies() { local -a names=(${(f)"$($service ps -a --format '{{.Names}}:' 2>/dev/null)"}); compadd -S "" -a names; _files }
_dolium_roots() { compadd -- "$@"; _dolium_images; _files }

_dolium() {
    local -a commands=(
@COMMANDS@
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        _arguments '--help' '--version'
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    if [[ $command == image ]] && (( CURRENT > 2 )); then
        case $words[2] in
@SECOND@
        *) return ;;
        esac
        shift words
        (( CURRENT-- ))
    fi
    case $command in
@TABLES@
    esac
}

_dolium "$@"
"""


def zsh_text(text: str) -> str:
    """Within '...' and [...] of a specification of _arguments."""
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:").replace("'", "'\\''")


def zsh_action(kind: str, words: "tuple[str, ...]") -> str:
    if kind == "words":
        goes_on = any(each[-1] in "=:" for each in words)
        return f'compadd -S "" -- {" ".join(words)}' if goes_on else f"({' '.join(words)})"
    actions = {"files": "_files", "devices": "_files -W /dev", "variables": "_parameters -q", "running": "_dolium_running",
               "containers": "_dolium_containers", "images": "_dolium_images", "copies": "_dolium_copies", "program": "_normal",
               "roots": f"_dolium_roots {' '.join(words)}", "networks": f"_dolium_networks {' '.join(words)}"}  # fmt: skip
    return actions.get(kind, " ")


def zsh_flag(flag: Flag) -> str:
    names = signature(flag)
    if consumes(flag):
        forms = [f"{name}{'=' if name.startswith('--') else '+'}" for name in names]
        value = f":{zsh_text(flag.value)}:{zsh_action(*values(flag))}"
    else:
        forms, value = list(names), ""
    return " ".join(f"'*{form}[{zsh_text(flag.text)}]{value}'" for form in forms)


def zsh() -> str:
    tables = []
    for found in commandline.all_tables():
        specs = [zsh_flag(flag) for flag in found.flags()]
        for number, kind, words, last in standing(found):
            if kind == "program":
                specs.append("'*:: :_normal'")
            elif kind:
                which = number + 1 if number == last else "*"
                specs.append(f"'{which}:{found.usage.strip('[].').split()[0].lower()}:{zsh_action(kind, words)}'")
        leading = " -A '-*'" if found.leading else ""
        tables.append(f"    {found.name.replace(' ', '-')}) _arguments -s -S{leading} {' '.join(specs)} ;;")
    commands = "\n".join(f"        '{name}:{zsh_text(summary)}'" for name, (_, _, summary) in COMMANDS.items())
    return filled(ZSH, COMMANDS=commands, TABLES="\n".join(tables), SECOND=second("        {}) command={} ;;"))


FISH = r"""# fish completion of dolium; made by make/completion.py

function __dolium_takes # COMMAND: its flags that have a value
    switch $argv[1]
@TAKES@
    end
end

function __dolium_words # what has been typed, without second names
    set -l words (commandline -opc)
    if test (count $words) -ge 3 -a "$words[2]" = image
        switch $words[3]
@SECOND@
        end
    end
    string join \n -- $words
end

function __dolium_images
    dolium images @IMAGES@ | string match -v '*<none>*'
end

function __dolium_at # COMMAND FIRST LAST: so many words that are no flags stand before the one to complete
    set -l words (__dolium_words)
    test (count $words) -ge 2 -a "$words[2]" = $argv[1]; or return 1
    set -l takes (string split -- ' ' (__dolium_takes $argv[1]))
    set -l count 0
    set -l pending
    for word in $words[3..-1]
        if test -n "$pending"
            set pending
        else if string match -q -- '--*' $word
            contains -- $word $takes; and set pending 1
        else if string match -q -- '-?*' $word
            contains -- -(string sub -s -1 -- $word) $takes; and set pending 1
        else
            set count (math $count + 1)
        end
    end
    test $count -ge $argv[2] -a $count -le $argv[3]
end

complete -c dolium -f
complete -c dolium -n __fish_use_subcommand -l help -d 'what there is'
complete -c dolium -n __fish_use_subcommand -l version -d 'which version this is'
"""


def fish_action(kind: str, words: "tuple[str, ...]") -> str:
    networks = f"{' '.join(words)} (dolium ps {NETWORKS})"
    names = {"images": "(__dolium_images)", "networks": networks, "copies": "(dolium ps -a --format '{{.Names}}:' 2>/dev/null)",
             "containers": f"(dolium ps -a {NAMES})", "running": f"(dolium ps {NAMES})", "variables": "(set -nx)",
             "program": "(__fish_complete_command)", "devices": "(__fish_complete_path /dev/)"}  # fmt: skip
    return fish_text(names.get(kind) or " ".join(words))


def fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish() -> str:
    takes = ""
    for found in commandline.all_tables():
        names = " ".join(name for flag in found.flags() if consumes(flag) for name in signature(flag))
        takes += f"        case {found.name.replace(' ', '-')}\n            echo '{names}'\n" if names else ""
    renamed = second("            case {}\n                set words $words[1] {} $words[4..-1]")
    lines = [filled(FISH, TAKES=takes.rstrip("\n"), SECOND=renamed)]
    for name, (_, _, summary) in COMMANDS.items():
        lines.append(f"complete -c dolium -n __fish_use_subcommand -a {name} -d {fish_text(summary)}\n")
    for found in commandline.all_tables():
        lines += fish_command(found)
    return "".join(lines)


def fish_command(found: Command) -> "list[str]":
    name = found.name.replace(" ", "-")
    here = f"complete -c dolium -n '__dolium_at {name} 0 {0 if found.leading else 99}'"
    lines = []
    for flag in found.flags():
        short = f" -s {flag.short}" if flag.short else ""
        kind, words = values(flag)
        value = ""
        if consumes(flag):
            value = " -r -F" if kind == "files" else f" -x -a {fish_action(kind, words)}" if kind else " -x"
        lines.append(f"{here}{short} -l {flag.name}{value} -d {fish_text(flag.text)}\n")
    for number, kind, words, last in standing(found):
        here = f"complete -c dolium -n '__dolium_at {name} {number} {last}'"
        if kind in ("files", "roots", "copies"):
            lines.append(f"{here} -F\n")
        if kind == "roots":
            lines += [f"{here} -a {fish_action('words', words)}\n", f"{here} -a '(__dolium_images)'\n"]
        elif kind == "files":
            pass
        elif kind and kind != "program":
            lines.append(f"{here} -a {fish_action(kind, words)}\n")
    return lines


SCRIPTS = {"bash": ("share/bash-completion/completions/dolium", bash), "zsh": ("share/zsh/site-functions/_dolium", zsh),
           "fish": ("share/fish/vendor_completions.d/dolium.fish", fish)}  # fmt: skip


def scripts() -> "dict[str, str]":
    """Path below a prefix, where the shell looks by itself -> text."""
    return {path: make() for path, make in SCRIPTS.values()}


if __name__ == "__main__":
    sys.stdout.write(SCRIPTS[sys.argv[1]][1]())
