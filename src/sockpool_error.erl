%%% @private
%%% What the reasons of errors are in words; see sockpool:format_error/1.
-module(sockpool_error).

-export([format/1]).
-export_type([reason/0, last/0]).

-type reason() :: timeout | full | closed | not_found | draining | busy | not_owner | system_limit
                | {unavailable, Last :: last()}
                | {nodedown, node()} | not_alive | {bad_request, term()}
                | {tls, term()}
                | {spawn, term()} | bad_reply | noproc
                | {exception, throw | exit | error, term(), list()}
                | {already_started, pid()} | {not_started, sockpool}
                | {bad_option, Key :: term(), Value :: term()}
                | {bad_argument, Name :: atom(), Value :: term()}
                | inet:posix().

-type last() :: timeout | {timeout, dirty_schedulers} | closed | nxdomain | system_limit
              | {unread_bytes, Text :: binary()} | {tls, term()} | {init, term()}
              | {node, term()} | {no_such_node, node()} | {epmd, term()} | {cookie, term()}
              | inet:posix() | term().
%% Why connecting fails; any term where the process of an attempt was killed.

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
allowed(length) -> "a number of bytes, or packet; on a connection with a framing packet or 0";
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
