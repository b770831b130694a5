%%% @private
%%% What the reasons of errors are in words; see sockpool:format_error/1.
-module(sockpool_error).

-export([format/1]).

%% @doc A reason that is not known comes back as it is written in Erlang.
-spec format(sockpool:reason() | term()) -> iolist().
format({nodedown, Node}) ->
    io_lib:format("no connection to node ~tp, which was to serve the pool", [Node]);
format(not_alive) ->
    "this VM is no node, so it has no connection to any: start it with -name or -sname";
format({bad_request, Request}) ->
    io_lib:format("the node that serves the pool does not know the request ~tP; does it run another "
                  "version of sockpool?", [Request, 20]);
format({bad_argument, Name, Value}) ->
    io_lib:format("bad argument ~tp: ~tP (allowed: ~ts)", [Name, Value, 20, allowed(Name)]);
format({bad_option, _, _} = Reason) ->
    sockpool_opts:format_error(Reason);
format({tls, _} = Reason) ->
    sockpool_tls:format_error(Reason);
format({init, badfun}) -> fun_is_gone(init, 1);
format({cookie, badfun}) -> fun_is_gone(cookie, 0);
format(system_limit) ->
    "the VM has no process or port to spare that this needs (see +P and +Q)";
format({timeout, dirty_schedulers}) ->
    "the time was over, most of which a handshake waited for a dirty CPU scheduler: others keep them busy "
    "(see erl +SDcpu)";
format({unread_bytes, Text}) ->
    io_lib:format("the server spoke first, and no init read it: ~ts", [Text]);
format({unavailable, Last}) ->
    ["connecting fails: ", format(Last)];
format(Reason) ->
    io_lib:format("~0tp", [Reason]).

fun_is_gone(Option, Arity) ->
    io_lib:format("option ~tp: the module of this fun was loaded twice since, and its code is gone; start the pool "
                  "again with one of the form fun Module:Function/~b", [Option, Arity]).

allowed(pool) -> "the name of a pool, an atom, or {Name, Node} for one that a node serves";
allowed(local_pool) -> "an atom: only pools of this node";
allowed(node) -> "the name of a node, an atom";
allowed(timeout) -> "milliseconds from 0 to 4294967295, or infinity";
allowed(length) -> "a number of bytes; 0 or, for request/4, packet on a connection with a framing";
allowed(data) -> "iodata";
allowed(pid) -> "a process of this node, or of any node for a connection of another node's pool";
allowed(opts) -> "a list of {Key, Value}";
allowed(module) -> "the name of a module, an atom";
allowed(function) -> "the name of a function, an atom";
allowed(args) -> "a list of arguments";
allowed(destination) -> "a registered name, {Name, Node} with the pool's node, or a pid of that node";
allowed(node_conn) -> "a connection of a pool with transport node, or the name of such a pool";
allowed(conn) -> "a connection that checkout/1,2 returned";
allowed(_Unknown) -> "nothing: sockpool has no such argument".
