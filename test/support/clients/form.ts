/** A part of a form, with its raw headers. */
export interface FormPart {
  headers: string;
  body: string | Uint8Array;
}

export const FORM_BOUNDARY = "-----a-boundary";
export const FORM_TYPE = { "content-type": `multipart/form-data; boundary=${FORM_BOUNDARY}` };

export function filePart(body: string | Uint8Array, parameters = 'filename="a.txt"'): FormPart {
  return {
    headers: `Content-Disposition: form-data; name="file"; ${parameters}\r\nContent-Type: text/plain`,
    body,
  };
}

export function textPart(name: string, body: string): FormPart {
  return { headers: `Content-Disposition: form-data; name="${name}"`, body };
}

/** Builds a form of type multipart/form-data (RFC 7578) by hand, so that tests can send malformed forms. */
export function form(...parts: FormPart[]): Buffer<ArrayBuffer> {
  return Buffer.concat([
    ...parts.flatMap(({ headers, body }) => [
      Buffer.from(`--${FORM_BOUNDARY}\r\n${headers}\r\n\r\n`),
      Buffer.from(body as string),
      Buffer.from("\r\n"),
    ]),
    Buffer.from(`--${FORM_BOUNDARY}--\r\n`),
  ]);
}
