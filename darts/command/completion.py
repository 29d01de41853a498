"""The command `darts completion`: a script for the shell, and the words that it asks for."""

from __future__ import annotations

from darts.command.base import Call, Command
from darts.run.errors import UserError

SCRIPT = """# bash, or zsh after: autoload -U bashcompinit && bashcompinit
_darts_complete() {
    COMPREPLY=($(darts completion --words "$COMP_CWORD" "${COMP_WORDS[@]}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -F _darts_complete darts"""


class CompletionCommand(Command):
    """Prints the script, or (called by it) the words that can stand at the cursor."""

    name, place, settings = "completion", 60, False
    help = "print a script for shell completion"
    usage = ""

    def run(self, call: Call) -> int:
        words = call.words
        if not words:
            print(SCRIPT)
            return 0
        if words[0] != "--words" or len(words) < 2 or not words[1].isdigit():
            raise UserError('completion: it takes no words; add eval "$(darts completion)" to ~/.bashrc')
        from darts.command.help import complete

        print("\n".join(complete(words[2:], int(words[1]))))
        return 0
