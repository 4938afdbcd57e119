/** Hears what a daemon, or a command, could not do now and will try again. */
export type Report = (what: string, error: unknown) => void
