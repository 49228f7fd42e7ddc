/** A protoc plugin: describes the services and messages for those who call over gRPC, as a page in `grpc.html`. */
import { createEcmaScriptPlugin, runNodeJs } from "@bufbuild/protoplugin";
import { readOptions } from "../openapi/options.ts";
import { renderPage } from "./page.ts";

runNodeJs(
  createEcmaScriptPlugin({
    name: "protoc-gen-grpc-reference",
    version: "1",
    generateTs(schema) {
      const own = schema.files.filter(({ proto }) => proto.package === "pgquiver.v1");
      schema.generateFile("grpc.html").print(renderPage(own, readOptions(schema.allFiles)));
    },
  }),
);
