import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Documents, and questions, each with the index of the document that answers it. */
export interface QuestionSet {
  documents: string[];
  questions: { question: string; answer: number }[];
  /** The documents are of so many groups, in turn, and a question is only for those of its answer's group; absent: one. */
  groups?: number;
}

/** Makes a set of questions, each with a document of its own. */
export function toSet(pairs: readonly { question: string; answer: string }[]): QuestionSet {
  return {
    documents: pairs.map(({ answer }) => answer),
    questions: pairs.map(({ question }, index) => ({ question, answer: index })),
  };
}

/**
 * Makes a set in which each answer is a document of every group: what is nearest to a question is the same text once in
 * each group, and only one of them is the answer.
 */
export function toGroups({ documents, questions }: QuestionSet, groups: number): QuestionSet {
  return {
    documents: documents.flatMap((text) => Array.from({ length: groups }, () => text)),
    questions: questions.map(({ question, answer }, index) => ({
      question,
      answer: answer * groups + (index % groups),
    })),
    groups,
  };
}

/** Reads the questions of perlfaq, and their answers, from the folder of its .pod files. */
export function readPerlfaq(folder: string): QuestionSet {
  const files = readdirSync(folder).filter((name) => /^perlfaq\d\.pod$/.test(name));
  return toSet(
    files.toSorted().flatMap((name) =>
      readFileSync(join(folder, name), "latin1")
        .split(/^=head2 /m)
        .slice(1)
        .map(readSection)
        .filter(({ answer }) => answer !== ""),
    ),
  );
}

function readSection(section: string): { question: string; answer: string } {
  const end = section.indexOf("\n\n");
  const [body = ""] = section.slice(end).split(/^=(?:head1|cut)/m);
  return { question: toText(section.slice(0, end)), answer: toText(body.replaceAll(/^=\w+.*$/gm, "")) };
}

/** Removes pod's formatting codes, which may be nested once: B<text>, C<<< text >>>. */
function toText(pod: string): string {
  const code = /[A-Z]<([^<>]*)>/g;
  return pod
    .replaceAll(/[A-Z]<<+\s(.*?)\s>>+/gs, "$1")
    .replaceAll(code, "$1")
    .replaceAll(code, "$1")
    .trim();
}
