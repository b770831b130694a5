%%% @private
%%% The HTTP server that sockpool's environment asks for, `{http, #{port => 9464}}': OTP's inets, whose httpd runs under this
%%% process and only then. What it answers is sockpool_http_answer's.
-module(sockpool_http).
-behaviour(gen_server).

-export([services/0, check/0, start_link/0, address/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {httpd :: pid(), ip :: inet:ip_address(), port :: inet:port_number()}).

%% @doc What is to be started with the application.
-spec services() -> [?MODULE].
services() ->
    case configured() of
        {ok, _} -> [?MODULE];
        none -> [];
        {error, _} -> []
    end.

%% @doc Before anything is started.
-spec check() -> ok | {error, {bad_option, http, term()}}.
check() ->
    case configured() of
        {error, _} = Error -> Error;
        {ok, _} ->
            case code:ensure_loaded(httpd) of
                {module, _} -> ok;
                {error, _} -> {error, {bad_option, http, no_inets}}
            end;
        none -> ok
    end.

configured() ->
    case application:get_env(sockpool, http) of
        undefined -> none;
        {ok, Off} when Off =:= undefined; Off =:= nil; Off =:= false; Off =:= off -> none;
        {ok, Given} ->
            case sockpool_given:map(Given, []) of
                {ok, Options} -> parsed(Options);
                error -> {error, {bad_option, http, Given}}
            end
    end.

parsed(Options) ->
    case maps:keys(maps:without([port, ip], Options)) of
        [] -> parsed(maps:get(port, Options, undefined), maps:get(ip, Options, {127, 0, 0, 1}));
        [Unknown | _] -> {error, {bad_option, http, {unknown, Unknown}}}
    end.

parsed(Port, _Ip) when not is_integer(Port); Port < 0; Port > 65535 -> {error, {bad_option, http, {port, Port}}};
parsed(Port, Ip) ->
    case address(Ip) of
        {ok, Address} -> {ok, {Address, Port}};
        error -> {error, {bad_option, http, {ip, Ip}}}
    end.

%% As a tuple, or written: "::1".
address(Ip) when is_tuple(Ip) ->
    case inet:ntoa(Ip) of {error, _} -> error; _ -> {ok, Ip} end;
address(Ip) when is_binary(Ip); is_list(Ip) ->
    try inet:parse_strict_address(unicode:characters_to_list(Ip)) of
        {ok, Address} -> {ok, Address};
        {error, _} -> error
    catch
        error:_ -> error
    end;
address(_) ->
    error.

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Where it listens: of port 0 the system has chosen one.
-spec address() -> {ok, {inet:ip_address(), inet:port_number()}} | {error, not_started}.
address() ->
    try
        gen_server:call(?MODULE, address)
    catch
        exit:_ -> {error, not_started}
    end.

-spec init([]) -> {ok, #state{}} | {stop, term()}.
init([]) ->
    process_flag(trap_exit, true),
    case configured() of
        {ok, {Ip, Given}} ->
            case port(Ip, Given) of
                {ok, Port} -> started(Ip, Port, inets:start(httpd, options(Ip, Port), stand_alone));
                {error, Reason} -> {stop, {http, Ip, Given, Reason}}
            end;
        _ -> {stop, {bad_option, http, application:get_env(sockpool, http, undefined)}}
    end.

%% One that httpd has chosen it tells nobody.
port(_Ip, Port) when Port > 0 ->
    {ok, Port};
port(Ip, 0) ->
    case gen_tcp:listen(0, [{ip, Ip}]) of
        {ok, Listener} ->
            Port = inet:port(Listener),
            ok = gen_tcp:close(Listener),
            Port;
        {error, _} = Error ->
            Error
    end.

started(Ip, Port, {ok, Httpd}) ->
    {ok, _} = sockpool_sampler:start_link(),
    ok = sockpool_http_answer:begin_with(Ip),
    {ok, #state{httpd = Httpd, ip = Ip, port = Port}};
started(Ip, Port, {error, Reason}) ->
    {stop, {http, Ip, Port, posix(Reason)}}.

%% The reason stands somewhere in what the supervisors of httpd have made of it.
posix({listen, Reason}) -> Reason;
posix(Reason) when is_tuple(Reason) ->
    case [Found || Part <- tuple_to_list(Reason), Found <- [posix(Part)], is_atom(Found), inet:format_error(Found) =/= "unknown POSIX error"] of
        [Found | _] -> Found;
        [] -> Reason
    end;
posix([First | Rest]) -> posix(list_to_tuple([First | Rest]));
posix(Reason) -> Reason.

options(Ip, Port) ->
    Dir = code:priv_dir(sockpool),
    [{port, Port}, {bind_address, Ip}, {ipfamily, if tuple_size(Ip) =:= 8 -> inet6; true -> inet end},
     {server_name, "sockpool"}, {server_tokens, none}, {server_root, Dir}, {document_root, Dir},
     {modules, [sockpool_http_answer]}, {mime_types, [{"html", "text/html"}]},
     %% Nobody sends a body, and nobody needs a long line.
     {max_clients, 100}, {max_header_size, 16384}, {max_body_size, 1024}, {max_uri_size, 4096}, {keep_alive_timeout, 70}].

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(address, _From, #state{ip = Ip, port = Port} = State) ->
    {reply, {ok, {Ip, Port}}, State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) -> {noreply, State}.

%% httpd, or the sampler: both are started again with this process.
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({'EXIT', _Pid, Reason}, State) -> {stop, Reason, State};
handle_info(_Other, State) -> {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{httpd = Httpd}) ->
    _ = inets:stop(stand_alone, Httpd),
    ok.
