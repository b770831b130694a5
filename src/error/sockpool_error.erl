%%% @private
%%% The reasons of errors, and what they are in words: see sockpool:format_error/1. What an operator looks
%%% for, such as the POSIX code, is in the sentence.
-module(sockpool_error).

-export([format/1, fun_is_gone/2]).
-export_type([reason/0, last/0]).

-type reason() :: timeout | full | closed | not_found | draining | busy | not_owner | system_limit
                | {unavailable, Last :: last()}
                | {nodedown, node()} | not_alive | {bad_request, term()}
                | {tls, term()} | {unread_bytes, Text :: binary()}
                | {spawn, term()} | bad_reply | bad_frame | {framing, term()} | noproc
                | {exception, throw | exit | error, term(), list()}
                | {already_started, pid()} | {not_started, sockpool}
                | {bad_option, Key :: term(), Value :: term()} | {needs_restart, Key :: atom()}
                | {bad_argument, Name :: atom(), Value :: term()}
                | inet:posix().

-type last() :: timeout | {timeout, dirty_schedulers} | closed | nxdomain | system_limit
              | {unread_bytes, Text :: binary()} | {tls, term()} | {init, term()}
              | {worker, term()} | {validate, term()}
              | {node, term()} | {no_such_node, node()} | {epmd, term()} | {cookie, term()}
              | inet:posix() | term().
%% Why connecting fails; any term where the process of an attempt was killed.

%% @doc A reason that is not known comes back as it is written in Erlang.
-spec format(term()) -> iolist().
format({error, Reason}) -> format(Reason);
format(timeout) -> "the time was over: no connection came free, or not all of the bytes came or went";
format(full) -> "nothing is idle, and the time-out was 0, or max_waiting processes wait already (see size and max_overflow)";
format(closed) -> "the connection is closed: by the server, by its check-in or max_hold, or since its pool ended";
format(not_found) -> "there is no such pool, or it was stopped; or sockpool does not run on its node";
format(draining) -> "the pool is draining: it was stopped meanwhile";
format(not_owner) -> "the connection belongs to another process (see give_away/2)";
format(busy) -> "the connection is in use just now: by another call, by init, or by max_inflight calls";
format(emsgsize) -> "the message is longer than recv_limit or its packet header allows, or a state has more than 65,536 terms and bytes (emsgsize)";
format(bad_frame) -> "the server has sent what is no message of the connection's framing (option packet)";
format({framing, Why}) -> io_lib:format("the function that says where messages end (option packet): ~0tP", [Why, 20]);
format(enomem) -> "memory is short (enomem)";
format(noproc) -> "that process is dead";
format(bad_reply) -> "the reply of the function cannot be read: it is damaged, or nested too deep";
format(nxdomain) -> "no name server knows the host's name (nxdomain)";
format(eagain) -> "the server of the Unix socket does not accept: as many as its backlog takes wait already (eagain)";
format(killed) -> "its process was killed";
format({nodedown, Node}) ->
    io_lib:format("no connection to node ~0tP, which was to serve the pool", [Node, 20]);
format(not_alive) ->
    "this VM is no node, so it has no connection to any: start it with -name or -sname";
format({bad_request, Request}) ->
    io_lib:format("the node that serves the pool does not know the request ~0tP; is it a C node, or does it run "
                  "another version of sockpool?", [Request, 20]);
format({bad_argument, Name, Value}) ->
    io_lib:format("bad argument ~tp: ~tP (allowed: ~ts)", [Name, Value, 20, allowed(Name)]);
format({bad_option, pools, not_a_map}) ->
    "its environment has pools that are no map of names and options, and no list of {Name, Options}";
format({bad_option, http, no_inets}) ->
    "its environment has http, and there is no inets in this release";
format({bad_option, http, Value}) ->
    io_lib:format("its environment has http: ~0tP (allowed: a map or list of port, 0 to 65535, and ip, an address of this host "
                  "as a tuple or text; by default 127.0.0.1)", [Value, 20]);
format({http, Ip, Port, Reason}) ->
    io_lib:format("its environment has http, and nothing can listen at ~s port ~b: ~ts", [inet:ntoa(Ip), Port, format(Reason)]);
format({sockpool_http, Reason}) ->
    format(Reason);
format({needs_restart, Key}) ->
    io_lib:format("option ~0tp cannot change while the pool runs: stop the pool, and start it with the new value", [Key]);
format({bad_option, _, _} = Reason) ->
    sockpool_opts:format_error(Reason);
format({tls, Reason}) ->
    sockpool_tls_error:format(Reason);
format({init, Reason}) ->
    of_function(init, Reason);
format({worker, Reason}) ->
    of_function(worker, Reason);
format({validate, Reason}) ->
    of_function(validate, Reason);
format({cookie, badfun}) ->
    fun_is_gone(cookie, 0);
format({cookie, not_a_cookie}) ->
    "the function of the option cookie returned no cookie";
format({cookie, Class}) ->
    io_lib:format("the function of the option cookie raised an exception (~0tP)", [Class, 20]);
format(system_limit) ->
    "the VM has no process or port to spare that this needs (see +P and +Q)";
format({timeout, dirty_schedulers}) ->
    "the time was over, most of which a handshake waited for a dirty CPU scheduler: others keep them busy "
    "(see erl +SDcpu)";
format({unread_bytes, Text}) when is_binary(Text) ->
    io_lib:format("the server spoke first, and nobody has read it: ~ts", [Text]);
format({checkout, Reason}) ->
    ["transaction had no connection: ", format(Reason)];
format({unavailable, Last}) ->
    ["connecting fails: ", last(Last)];
format({no_such_node, Node}) ->
    io_lib:format("epmd on the host of ~0tP does not know that node, or does not answer", [Node, 20]);
format({node, Reason}) ->
    to_node(Reason);
format({epmd, Reason}) ->
    io_lib:format("the epmd module answered: ~0tP", [Reason, 20]);
format({spawn, Reason}) ->
    io_lib:format("the node could not start a process for the call: ~0tP", [Reason, 20]);
format({exception, exit, {signal, Reason}, _Stack}) ->
    io_lib:format("the process that ran the function was killed: ~0tP", [Reason, 20]);
format({exception, Class, Reason, _Stack}) ->
    io_lib:format("the function raised ~0tP: ~0tP", [Class, 20, Reason, 20]);
format({already_started, Pid}) ->
    io_lib:format("a pool of that name runs already, or is about to run again (~0tP)", [Pid, 20]);
format({not_started, sockpool}) ->
    "the application sockpool does not run: see application:ensure_all_started/1";
format(Reason) ->
    boot(Reason).

%%% Of a start of the application, or of a supervisor, that failed.

boot({App, {_, {Module, start, _}} = Reason}) when is_atom(App), is_atom(Module) -> boot(Reason);
boot({{_Sentence, Reason}, {sockpool_app, start, _}}) -> format(Reason);
boot({{shutdown, _} = Reason, {Module, start, _}}) when is_atom(Module) -> boot(Reason);
boot({shutdown, {failed_to_start_child, {sockpool, Name}, Reason}}) ->
    io_lib:format("pool ~0tP: ~ts", [Name, 20, format(Reason)]);
boot({shutdown, {failed_to_start_child, _Child, Reason}}) -> boot(Reason);
boot({pool, Name, Reason}) -> io_lib:format("pool ~0tP of its environment: ~ts", [Name, 20, format(Reason)]);
boot({library, Path, Text} = Reason) ->
    case io_lib:printable_unicode_list(Path) andalso io_lib:printable_unicode_list(Text) of
        true -> io_lib:format("the library ~ts.so cannot be loaded (~ts); ~ts", [Path, Text, advice(Path)]);
        false -> other(Reason)
    end;
boot(Reason) when is_atom(Reason) ->
    case inet:format_error(Reason) of
        "unknown POSIX error" ++ _ -> other(Reason);
        Words -> io_lib:format("~ts (~ts)", [Words, Reason])
    end;
boot(Reason) ->
    other(Reason).

other(Reason) -> io_lib:format("~0tp", [Reason]).

advice(Path) ->
    case {filelib:is_regular(Path ++ ".so"), archive(filename:split(Path))} of
        {true, _} -> "was it built for this system and this version of OTP?";
        {false, none} -> "it is made when sockpool is compiled with rebar3 or make";
        {false, Archive} -> ["nothing can be loaded from within ", Archive, ", an archive such as an escript: "
                             "keep sockpool beside it, as a directory in ERL_LIBS"]
    end.

archive([]) -> none;
archive([First | Parts]) -> archive(First, Parts).

archive(_Path, []) ->
    none;
archive(Path, [Part | Parts]) ->
    case filelib:is_regular(Path) of
        true -> Path;
        false -> archive(filename:join(Path, Part), Parts)
    end.

%%% Why connecting fails.

last(timeout) -> "the server did not answer within connect_timeout";
last(closed) -> "the server closed the connection at once";
last(Reason) -> format(Reason).

%% Of an option that is a function.
of_function(Option, badfun) ->
    fun_is_gone(Option, case Option of worker -> 0; _ -> 1 end);
of_function(init, {state, emsgsize}) ->
    "init returned a state of more than 65,536 terms and bytes (emsgsize)";
of_function(Option, {bad_return, Value}) ->
    io_lib:format("~ts returned neither ~ts: ~0tP", [function(Option), right(Option), Value, 20]);
of_function(Option, {Class, Reason, [_ | _] = Stack}) when Class =:= error; Class =:= exit; Class =:= throw ->
    io_lib:format("~ts raised ~p: ~0tP, in ~0tP", [function(Option), Class, Reason, 20, hd(Stack), 20]);
of_function(worker, Reason) ->
    io_lib:format("a worker could not be started, or has ended: ~0tP", [Reason, 20]);
of_function(Option, Reason) ->
    io_lib:format("~p returned an error: ~0tP", [Option, Reason, 20]).

function(worker) -> "the function that starts a worker";
function(Option) -> atom_to_list(Option).

right(init) -> "ok, {ok, State} nor {error, Reason}";
right(worker) -> "{ok, Pid}, with a process of this node, nor {error, Reason}";
right(validate) -> "true nor false".

to_node(wrong_cookie) -> "the node has another cookie (wrong_cookie)";
to_node(not_allowed) -> "the node takes connections of other hosts only, see net_kernel:allow/1 (not_allowed)";
to_node(other_node) -> "another node listens at that port (other_node)";
to_node(lacks_capability) -> "the node is older than OTP 23 (lacks_capability)";
to_node(closed) -> "what listens there closed the connection: it is no node, or speaks TLS (closed)";
to_node(protocol_error) -> "what listens there is no node, or speaks TLS (protocol_error)";
to_node(no_md5) -> "OpenSSL does not compute MD5, which the cookie needs: FIPS mode? (no_md5)";
to_node(Reason) -> io_lib:format("the connection to the node failed: ~0tP", [Reason, 20]).

%% @doc Of an option whose code was loaded twice since.
-spec fun_is_gone(atom(), arity()) -> iolist().
fun_is_gone(Option, Arity) ->
    io_lib:format("option ~tp: the module of this fun was loaded twice since, and its code is gone; start the pool "
                  "again with one of the form fun Module:Function/~b", [Option, Arity]).

allowed(pool) -> "the name of a pool, an atom, {Name, Node} for one that a node serves, or what start_pool/1 or unnamed/0 has returned";
allowed(local_pool) -> "an atom: only pools of this node";
allowed(node) -> "the name of a node, an atom";
allowed(timeout) -> "milliseconds from 0 to 4294967295, or infinity";
allowed(length) -> "a number of bytes, or packet; packet (or 0) for a request only where the pool has a framing (option packet): "
                   "without one nothing tells where the reply ends";
allowed(is_last) -> "a fun of one argument, a message, that returns true or false";
allowed(data) -> "iodata";
allowed(count) -> "size, or an integer from 1 to 4294967295";
allowed(how) -> "clean: nothing more comes on it for what was sent";
allowed(pid) -> "a process of this node, or of any node for a connection of another node's pool";
allowed(opts) -> "a map, or a list of {Key, Value}, of what the function knows";
allowed(module) -> "the name of a module, an atom";
allowed(function) -> "the name of a function, an atom";
allowed(args) -> "a list of arguments";
allowed(destination) -> "a registered name, {Name, Node} with the pool's node, or a pid of that node";
allowed(node_conn) -> "a connection of a pool with transport node, or the name of such a pool";
allowed(conn) -> "a connection that checkout/1,2 returned";
allowed(_Unknown) -> "nothing: sockpool has no such argument".
