/** Rows of the option table about the model itself. */

export const MODEL_OPTIONS = {
  "chat-template": {
    group: "model",
    type: "path",
    default: "",
    hint: "file",
    commands: ["serve", "run", "chat", "bench throughput", "bench kv"],
    help: "Jinja file to use instead of the model's own chat template",
    example: "./template.jinja",
  },
  offline: {
    group: "model",
    type: "boolean",
    default: false,
    commands: [
      "serve",
      "run",
      "chat",
      "bench engine",
      "bench serve",
      "bench throughput",
      "bench kv",
      "bench results",
      "demo",
      "inspect",
      "pull",
    ],
    help: "Use only what is on disk; HF_HUB_OFFLINE=1 does the same",
    example: "true",
  },
} as const;
