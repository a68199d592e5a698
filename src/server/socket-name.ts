/** The socket of a server in the directory of its store; a file of its own, so that commands need not load the server for it. */
export const SOCKET_NAME = "server.sock";
