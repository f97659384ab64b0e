"""Completions for bash, zsh and fish, out of the tables that parse the command line.  `completion.py SHELL` prints one."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import commandline
from commandline import COMMANDS, Command, Flag, consumes, signature, values
from commandline import places as places_of

NAMES = "--format '{{.Names}}' 2>/dev/null"
GENERAL = ("--help", "--version")

BASH = r"""# bash completion of dolium; made by make/completion.py, needs no bash-completion package

_dolium_answer() { # TEXT WORD...
    local text=$1 word
    shift
    for word; do
        [[ $word == "$text"* ]] && COMPREPLY+=("$word")
        [[ $word == *[=:] ]] && compopt -o nospace
    done
}

_dolium_is() { # PROGRAM KIND TEXT WORD...
    local program=$1 kind=$2 text=$3 word
    shift 3
    case $kind in
    words) _dolium_answer "$text" "$@" ;;
    files | roots)
        compopt -o filenames
        [[ $kind == roots ]] && _dolium_answer "$text" "$@"
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$text") ;;
    devices)
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "${text:-/dev/}") ;;
    variables) while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -v -- "$text") ;;
    program) while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -c -- "$text") ;;
    containers) _dolium_answer "$text" $("$program" ps -a @NAMES@) ;;
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
    for found in commandline.every():
        rows = found.flags()
        flags = " ".join(name for flag in rows for name in signature(flag) if name.startswith("--"))
        takes = " ".join(name for flag in rows if consumes(flag) for name in signature(flag))
        tables.append(f"    {found.name}) flags=({flags}) takes=({takes}){' leading=1' if found.leading else ''} ;;")
        for flag in rows:
            kind, words = values(flag)
            if kind:
                pattern = " | ".join(found.name + name for name in signature(flag))
                given.append(f'        {pattern}) _dolium_is "$program" {kind} "$text"{quoted(words)} ;;')
        for number, kind, words, last in standing(found):
            pattern = f"{found.name}{number}" if number == last else f"{found.name}[0-9]*"
            if kind:
                stands.append(f'        {pattern}) _dolium_is "$program" {kind} "$text"{quoted(words)} ;;')
    parts = {"COMMANDS": quoted((*COMMANDS, *GENERAL))[1:], "TABLES": "\n".join(tables), "VALUES": "\n".join(given),
             "PLACES": "\n".join(stands), "NAMES": NAMES}  # fmt: skip
    text = BASH
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


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
_dolium_roots() { compadd -- "$@"; _files -/ }

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
               "containers": "_dolium_containers", "program": "_normal", "roots": f"_dolium_roots {' '.join(words)}"}  # fmt: skip
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
    for found in commandline.every():
        specs = [zsh_flag(flag) for flag in found.flags()]
        for number, (kind, words) in enumerate(places_of(found)):
            if kind == "program":
                specs.append("'*:: :_normal'")
            elif kind:
                which = "*" if found.usage.endswith("...") else number + 1
                specs.append(f"'{which}:{found.usage.strip('[].').split()[0].lower()}:{zsh_action(kind, words)}'")
        leading = " -A '-*'" if found.leading else ""
        tables.append(f"    {found.name}) _arguments -s -S{leading} {' '.join(specs)} ;;")
    commands = "\n".join(f"        '{name}:{zsh_text(summary)}'" for name, (_, _, summary) in COMMANDS.items())
    return ZSH.replace("@COMMANDS@", commands).replace("@TABLES@", "\n".join(tables)).replace("@NAMES@", NAMES)


FISH = r"""# fish completion of dolium; made by make/completion.py

function __dolium_takes # COMMAND: its flags that have a value
    switch $argv[1]
@TAKES@
    end
end

function __dolium_at # COMMAND FIRST LAST: so many words that are no flags stand before the one to complete
    set -l words (commandline -opc)
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
    names = {"containers": f"(dolium ps -a {NAMES})", "running": f"(dolium ps {NAMES})", "variables": "(set -nx)",
             "program": "(__fish_complete_command)", "devices": "(__fish_complete_path /dev/)"}  # fmt: skip
    return fish_text(names.get(kind) or " ".join(words))


def fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish() -> str:
    takes = ""
    for found in commandline.every():
        names = " ".join(name for flag in found.flags() if consumes(flag) for name in signature(flag))
        takes += f"        case {found.name}\n            echo '{names}'\n" if names else ""
    lines = [FISH.replace("@TAKES@\n", takes)]
    for name, (_, _, summary) in COMMANDS.items():
        lines.append(f"complete -c dolium -n __fish_use_subcommand -a {name} -d {fish_text(summary)}\n")
    for found in commandline.every():
        lines += fish_command(found)
    return "".join(lines)


def fish_command(found: Command) -> "list[str]":
    here = f"complete -c dolium -n '__dolium_at {found.name} 0 {0 if found.leading else 99}'"
    lines = []
    for flag in found.flags():
        short = f" -s {flag.short}" if flag.short else ""
        kind, words = values(flag)
        value = ""
        if consumes(flag):
            value = " -r -F" if kind == "files" else f" -x -a {fish_action(kind, words)}" if kind else " -x"
        lines.append(f"{here}{short} -l {flag.name}{value} -d {fish_text(flag.text)}\n")
    for number, kind, words, last in standing(found):
        here = f"complete -c dolium -n '__dolium_at {found.name} {number} {last}'"
        if kind == "roots":
            lines += [f"{here} -F\n", f"{here} -a {fish_action('words', words)}\n"]
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
