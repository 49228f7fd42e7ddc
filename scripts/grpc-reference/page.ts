import {
  ScalarType,
  type DescEnum,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescMethod,
  type DescService,
} from "@bufbuild/protobuf";
import type { Options } from "../openapi/options.ts";
import { commentOf } from "../openapi/schemas.ts";
import { STYLE } from "./style.ts";

type Named = DescMessage | DescEnum;

/** Renders the page: a list of all services and types, then each with its comments. The page has no script. */
export function renderPage(files: readonly DescFile[], options: Options): string {
  const services = files.flatMap((file) => file.services).toSorted(byName);
  const types = files
    .flatMap((file) => [...file.enums, ...file.messages.flatMap(withNested)])
    .toSorted(byName);
  const link = ({ name, typeName }: DescService | Named) => `<li><a href="#${typeName}">${name}</a></li>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pgquiver over gRPC</title>
<style>${STYLE}</style>
<nav aria-label="Services and types">
<h2>Services</h2><ul>${services.map(link).join("")}</ul>
<h2>Types</h2><ul>${types.map(link).join("")}</ul>
</nav>
<main>
<h1>pgquiver over gRPC</h1>
<p>Package <code>pgquiver.v1</code>. The key goes into the metadata <code>authorization: Bearer …</code>. Each RPC names the scope that its
key needs and its REST route, which <a href="../docs">the REST reference</a> describes. Server reflection has the same declarations.</p>
${services.map((service) => renderService(service, options)).join("\n")}
<h2>Types</h2>
${types.map((type) => (type.kind === "enum" ? renderEnum(type) : renderMessage(type, options))).join("\n")}
</main>
</html>
`;
}

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1;
}

/** A message and the types within it; the messages of maps are no types of their own. */
function withNested(message: DescMessage): Named[] {
  if (message.proto.options?.mapEntry === true) return [];
  return [message, ...message.nestedEnums, ...message.nestedMessages.flatMap(withNested)];
}

function renderService(service: DescService, options: Options): string {
  return `<section id="${service.typeName}"><h2>${service.name}</h2>
${renderText(commentOf(service))}
${service.methods.map((method) => renderMethod(method, options)).join("\n")}
</section>`;
}

function renderMethod(method: DescMethod, options: Options): string {
  const { name, parent, input, output, methodKind } = method;
  const [sends, replies] = [
    methodKind === "client_streaming" || methodKind === "bidi_streaming" ? "stream " : "",
    methodKind === "server_streaming" || methodKind === "bidi_streaming" ? "stream " : "",
  ];
  const rule = options.routeOf(method);
  const routes = rule === undefined ? [] : [rule, ...rule.additionalBindings];
  const facts = [
    `scope <code>${options.scopeOf(method)}</code>`,
    ...routes.map(
      ({ pattern }) => `<code>${String(pattern.case).toUpperCase()} ${escape(String(pattern.value))}</code>`,
    ),
  ];
  return `<article id="${parent.typeName}.${name}"><h3>${name}</h3>
<pre>rpc ${name}(${sends}${typeLink(input)}) returns (${replies}${typeLink(output)})</pre>
<p class="facts">${facts.join(" · ")}</p>
${renderText(commentOf(method))}
</article>`;
}

function renderMessage(message: DescMessage, options: Options): string {
  const rows = message.fields.map((field) => {
    const most = options.itemsMaxOf(field);
    const limit = most === undefined ? "" : `<p class="facts">at most ${most.toLocaleString("en")} items</p>`;
    const group =
      field.oneof === undefined || field.oneof.fields.length < 2
        ? ""
        : `<br>one of <em>${field.oneof.name}</em>`;
    return `<tr><td>${field.number}</td><td><code>${field.name}</code></td><td>${fieldType(field)}${group}</td><td>${renderText(commentOf(field))}${limit}</td></tr>`;
  });
  return `<article id="${message.typeName}"><h3>${message.name}</h3>
${renderText(commentOf(message))}
${rows.length === 0 ? "" : `<table><tr><th>No.</th><th>Field</th><th>Type</th><th></th></tr>${rows.join("\n")}</table>`}
</article>`;
}

function renderEnum(type: DescEnum): string {
  const rows = type.values.map(
    (value) =>
      `<tr><td>${value.number}</td><td><code>${value.name}</code></td><td>${renderText(commentOf(value))}</td></tr>`,
  );
  return `<article id="${type.typeName}"><h3>${type.name}</h3>
${renderText(commentOf(type))}
<table><tr><th>No.</th><th>Value</th><th></th></tr>${rows.join("\n")}</table>
</article>`;
}

function fieldType(field: DescField): string {
  const optional = field.proto.proto3Optional ? "optional " : "";
  if (field.fieldKind === "map")
    return `map&lt;${scalarName(field.mapKey)}, ${field.message === undefined ? (field.enum?.name ?? scalarName(field.scalar)) : typeLink(field.message)}&gt;`;
  const type = field.message ?? field.enum;
  const name = type === undefined ? scalarName(field.scalar) : typeLink(type);
  return `${field.fieldKind === "list" ? "repeated " : optional}${name}`;
}

function scalarName(scalar: ScalarType | undefined): string {
  return scalar === undefined ? "" : ScalarType[scalar].toLowerCase();
}

/** Types of other packages, such as google.protobuf.Struct, are not on the page. */
function typeLink({ typeName, name }: Named): string {
  return typeName.startsWith("pgquiver.") ? `<a href="#${typeName}">${name}</a>` : typeName;
}

/** A comment: paragraphs, with `code` in backticks. */
function renderText(text: string): string {
  return text
    .split(/\n{2,}/)
    .filter((paragraph) => paragraph.trim() !== "")
    .map((paragraph) => `<p>${escape(paragraph).replaceAll(/`([^`]+)`/g, "<code>$1</code>")}</p>`)
    .join("");
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
