import { BASE, readMessage } from "./clients.ts";
import { needKey, sessionHeaders } from "./session.ts";

/**
 * Uploads a file and returns its id. By XMLHttpRequest, because fetch does not tell how much was sent; `onProgress` gets the
 * fraction.
 */
export async function uploadFile(file: File, onProgress: (fraction: number) => void): Promise<string> {
  const form = new FormData();
  form.set("purpose", "assistants");
  form.set("file", file);
  return new Promise((resolve, reject) => {
    const sent = new XMLHttpRequest();
    sent.open("POST", `${BASE}v1/files`);
    for (const [name, value] of Object.entries(sessionHeaders())) sent.setRequestHeader(name, value);
    sent.upload.addEventListener("progress", ({ loaded, total }) =>
      onProgress(total === 0 ? 1 : loaded / total),
    );
    sent.addEventListener("error", () => reject(new Error("The upload was interrupted.")));
    sent.addEventListener("load", () => {
      if (sent.status === 200) return resolve((JSON.parse(sent.responseText) as { id: string }).id);
      const message = readMessage(sent.responseText) ?? `The upload failed with status ${sent.status}.`;
      if (sent.status === 401) needKey(message);
      reject(new Error(message));
    });
    sent.send(form);
  });
}
