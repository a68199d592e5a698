/** What a setting is called outside of JavaScript. */

export const VARIABLE_PREFIX = "BOUGH_";

/** stream-idle-ms: in files, and of options. */
export function kebabName(setting: string): string {
  return setting.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** BOUGH_STREAM_IDLE_MS: in the environment. */
export function variableName(setting: string): string {
  return VARIABLE_PREFIX + kebabName(setting).replaceAll("-", "_").toUpperCase();
}
