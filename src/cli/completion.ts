import { Argument, type Command } from "commander";

/** The commands and options after which a shell may complete, by the words before. */
function listWords(command: Command, path = ""): [string, string[]][] {
  const options = command.options.flatMap(({ long }) => (long === undefined || long === null ? [] : [long]));
  const words = [...command.commands.map((one) => one.name()), ...options, "--help"];
  return [
    [path, words],
    ...command.commands.flatMap((one) => listWords(one, `${path} ${one.name()}`.trim())),
  ];
}

/** A function of bash that finds the longest known path of commands among the words typed. */
function scriptFor(program: Command): string {
  const cases = listWords(program).map(([path, words]) => `    "${path}") words="${words.join(" ")}" ;;`);
  return `_pgquiver() {
  local path="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) case " ${listPaths(program)} " in *" \${path:+$path/}$word "*) path="\${path:+$path/}$word" ;; esac ;; esac
  done
  case "\${path//\\// }" in
${cases.join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -f -- "\${COMP_WORDS[COMP_CWORD]}")
}
complete -F _pgquiver pgquiver
`;
}

function listPaths(program: Command): string {
  return listWords(program)
    .map(([path]) => path.replaceAll(" ", "/"))
    .filter((path) => path !== "")
    .join(" ");
}

/** Adds the command that prints the completion of a shell. */
export function addCompletion(program: Command): void {
  program
    .command("completion")
    .description('print what makes a shell complete commands: eval "$(pgquiver completion bash)"')
    .addArgument(new Argument("<shell>").choices(["bash", "zsh"]))
    .action((shell: string) => {
      const bash = scriptFor(program);
      process.stdout.write(shell === "bash" ? bash : `autoload -U +X bashcompinit && bashcompinit\n${bash}`);
    });
}
