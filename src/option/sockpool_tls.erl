%%% @doc The options of `transport => tls', and their way into C.
%%%
%%% ```
%%% {ok, Opts} = sockpool_tls:parse(#{cacertfile => "/etc/my/ca.pem"}),
%%% {error, Bad} = sockpool_tls:parse(#{versions => ['tlsv1.1']}),
%%% io:format("~ts~n", [sockpool_tls:format_error(Bad)]).
%%% '''
-module(sockpool_tls).

-export([parse/1, given/1, format_error/1, seal/1, configure/4, turn/0]).
-export_type([opts/0, bad_option/0]).

-type bad_option() :: {bad_option, {tls, Key :: term()}, Value :: term()}.
-type opts() :: #{verify := peer | none,
                  cacertfile := binary() | undefined,
                  cacerts := [Der :: binary(), ...] | undefined,
                  server_name := binary() | undefined,
                  certfile := binary() | undefined,
                  keyfile := binary() | undefined,
                  password := sockpool_callback:callback() | undefined,
                  versions := ['tlsv1.2' | 'tlsv1.3', ...],
                  ciphers := binary() | undefined,
                  ciphersuites := binary() | undefined,
                  groups := binary() | undefined,
                  alpn := [binary()],
                  session_reuse := boolean(),
                  keylog := binary() | undefined,
                  ktls := boolean()}.
%% Complete and normalised: texts and paths are UTF-8.

-type check() :: fun((term()) -> {ok, Normalised :: term()} | error).
-type row() :: {Key :: atom(), Default :: term(), check(), Allowed :: string()}.

-define(MAX_NAME_BYTES, 255).

%% @doc Checks the options, a map or a list of `{Key, Value}', and fills in the defaults.
-spec parse(term()) ->
          {ok, opts()} | {error, bad_option() | {bad_option, tls, not_a_list_of_options}}.
parse(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} ->
            try
                {ok, checked(Given)}
            catch
                throw:{bad_option, _, _} = Bad -> {error, Bad}
            end;
        error ->
            %% Not what it is instead: a password may be in it.
            {error, {bad_option, tls, not_a_list_of_options}}
    end.

%% @doc As a map, with nothing in it that is not given. What are no options stays what it is.
-spec given(term()) -> term().
given(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} -> Given;
        error -> Opts
    end.

keys() -> [Key || {Key, _Default, _Check, _Allowed} <- rows()].

proper(Opts) ->
    try length(Opts) of
        _ -> Opts
    catch
        error:badarg -> [improper]
    end.

checked(Opts) ->
    case maps:to_list(maps:without(keys(), Opts)) of
        [] -> ok;
        [{Unknown, Value} | _] -> throw({bad_option, {tls, Unknown}, shown(Unknown, Value)})
    end,
    Parsed = maps:from_list([checked_row(Row, Opts) || Row <- rows()]),
    ok = check_pairs(Parsed),
    Parsed.

checked_row({Key, Default, Check, _Allowed}, Opts) ->
    Value = maps:get(Key, Opts, Default),
    case Value =:= Default orelse Check(Value) of
        true -> {Key, Default};
        {ok, Normalised} -> {Key, Normalised};
        error -> throw({bad_option, {tls, Key}, shown(Key, Value)})
    end.

%% What was meant as a password must not end up in a log.
shown(password, Value) when Value =/= undefined ->
    case sockpool_callback:check(Value, 0) of
        {ok, Callback} -> Callback;
        error -> not_a_fun
    end;
shown(Key, Value) ->
    sockpool_given:shown(Key, Value, keys()).

%% @doc The options, which may be wrong, without a password in clear: as wrong as they were.
-spec seal(term()) -> term().
seal(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} -> maps:map(fun shown/2, Given);
        error -> not_a_list_of_options
    end.

check_pairs(#{keyfile := Key, certfile := undefined}) when Key =/= undefined ->
    throw({bad_option, {tls, certfile}, undefined});
check_pairs(#{cacertfile := File, cacerts := Certs})
  when File =/= undefined, Certs =/= undefined ->
    throw({bad_option, {tls, cacerts}, Certs});
check_pairs(_Opts) ->
    ok.

%% @doc Says which option is wrong, what its value is, and what is allowed.
-spec format_error(bad_option()) -> string().
format_error({bad_option, {tls, certfile}, undefined}) ->
    "tls option certfile is not given; keyfile needs it";
format_error({bad_option, {tls, Key}, Value}) ->
    case lists:keyfind(Key, 1, rows()) of
        {Key, Default, Check, Allowed} ->
            Says = case Value =/= Default andalso Check(Value) of
                       error -> "tls option ~0tp: ~0tP is not allowed; it must be ~ts";
                       _ -> "tls option ~0tp: ~0tP is not allowed with the other options; it is ~ts"
                   end,
            format(Says, [Key, Value, 30, Allowed]);
        false ->
            Keys = [atom_to_list(Known) || Known <- keys()],
            format("tls option ~0tP does not exist; the options are ~ts",
                   [Key, 30, lists:append(lists:join(", ", Keys))])
    end.

-spec rows() -> [row()].
rows() ->
    Path = "a file's path as a string or binary",
    [{verify, peer, member([peer, none]), "peer or none"},
     {cacertfile, undefined, fun text/1, Path ++ ", and no cacerts with it"},
     {cacerts, undefined, fun certs/1,
      "a list of DER binaries, or what public_key:cacerts_get/0 returns, and no cacertfile with it"},
     {server_name, undefined, fun name/1,
      "a host name or an IP address as a string or binary of at most 255 visible ASCII characters"},
     {certfile, undefined, fun text/1, Path ++ "; keyfile needs it"},
     {keyfile, undefined, fun text/1, Path},
     {password, undefined, fun fun_of_none/1, "a fun without arguments, or {Module, Function, Args}, that "
      "returns iodata; for a pool of another node exported there, and no other fun than fun Module:Function/0"},
     {versions, ['tlsv1.2', 'tlsv1.3'], fun versions/1,
      "a list of 'tlsv1.2', 'tlsv1.3' or both"},
     {ciphers, undefined, fun text/1, "a cipher list of OpenSSL, for TLS 1.2, as text"},
     {ciphersuites, undefined, fun text/1, "names of TLS 1.3 cipher suites with : between them"},
     {groups, undefined, fun text/1, "names of groups with : between them, such as X25519:P-256"},
     {alpn, [], fun alpn/1, "a list of protocol names, strings or binaries of 1 to 255 bytes"},
     {session_reuse, true, member([true, false]), "true or false"},
     {keylog, undefined, fun text/1, Path},
     {ktls, false, member([true, false]), "true or false"}].

%%% Checks.

-spec member([term()]) -> check().
member(Values) ->
    fun(Value) ->
            case lists:member(Value, Values) of
                true -> {ok, Value};
                false -> error
            end
    end.

text(Text) ->
    case to_utf8(Text) of
        <<_, _/binary>> = Binary ->
            case binary:match(Binary, <<0>>) of
                nomatch -> {ok, Binary};
                _Found -> error
            end;
        _ ->
            error
    end.

to_utf8(Binary) when is_binary(Binary) ->
    Binary;
to_utf8(List) when is_list(List) ->
    try unicode:characters_to_binary(List) of
        Result -> Result
    catch
        error:badarg -> error
    end;
to_utf8(_Other) ->
    error.

name(Name) ->
    case text(Name) of
        %% To OpenSSL any host below that domain.
        {ok, <<$., _/binary>>} ->
            error;
        {ok, Binary} when byte_size(Binary) =< ?MAX_NAME_BYTES ->
            case << <<C>> || <<C>> <= Binary, C > $\s, C =< $~ >> of
                Binary -> {ok, Binary};
                _ -> error
            end;
        _ ->
            error
    end.

%% None at all would be the system's: whoever computes a list wants no more than what is in it.
certs([_ | _] = Certs) ->
    Ders = [der(Cert) || Cert <- proper(Certs)],
    case lists:all(fun(Der) -> is_binary(Der) andalso Der =/= <<>> end, Ders) of
        true -> {ok, Ders};
        false -> error
    end;
certs(_Other) ->
    error.

der({cert, Der, _Decoded}) -> Der;
der(Der) -> Der.

fun_of_none(Value) -> sockpool_callback:check(Value, 0).

versions(Versions) when is_list(Versions) ->
    case lists:usort(proper(Versions)) of
        [] -> error;
        Wanted -> case Wanted -- ['tlsv1.2', 'tlsv1.3'] of
                      [] -> {ok, Wanted};
                      _Unknown -> error
                  end
    end;
versions(_Other) ->
    error.

alpn([]) ->
    {ok, []};
alpn([Name | Rest]) ->
    case {to_utf8(Name), alpn(Rest)} of
        {<<_, _/binary>> = Binary, {ok, Names}} when byte_size(Binary) =< 255 ->
            {ok, [Binary | Names]};
        _ ->
            error
    end;
alpn(_Other) ->
    error.

format(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).

%%% Into C.

%% @doc For configure/4: of two configurations the one whose turn was taken later stays.
-spec turn() -> integer().
turn() -> erlang:unique_integer([monotonic, positive]).

%% @doc Makes these options, with the files as they are now, those of the pool's next connections.
%% The password fun has `LimitMs' milliseconds: whoever calls this may have others wait for it.
-spec configure(sockpool_nif:pool(), opts(), Turn :: integer(), LimitMs :: non_neg_integer()) ->
          ok | {error, {tls, {Option :: atom(), Why :: term()}} | system_limit}.
configure(Pool, Opts, Turn, LimitMs) ->
    Parent = self(),
    Tag = make_ref(),
    try spawn_monitor(fun() -> Parent ! {Tag, watched(Parent, {Pool, Opts, Turn}, LimitMs)} end) of
        Watched -> configured(Tag, Watched)
    catch
        error:system_limit -> {error, system_limit}
    end.

configured(Tag, {Pid, Monitor}) ->
    receive
        {Tag, Result} ->
            true = demonitor(Monitor, [flush]),
            case Result of
                ok -> ok;
                {error, system_limit} -> {error, system_limit};
                {error, Reason} -> {error, {tls, Reason}}
            end;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, {tls, {configure, sockpool_reason:of_exit(Reason)}}}
    end.

%% The work is done in a process of its own, so that the password leaves the VM's heaps at once.
%% This one sees to it that the work ends, also where the caller is killed while the fun waits.
watched(Parent, {_Pool, Opts, _Turn} = Work, LimitMs) ->
    Self = self(),
    try spawn_monitor(fun() -> configure_here(Self, Work) end) of
        Worker -> watched(Parent, monitor(process, Parent), Worker, limit(Opts, LimitMs))
    catch
        error:system_limit -> {error, system_limit}
    end.

watched(Parent, Watch, {Pid, Monitor}, LimitMs) ->
    receive
        {Pid, asked} -> result(Pid, Monitor);
        {Pid, Result} -> Result;
        {'DOWN', Monitor, process, Pid, _} -> {error, {password, raised}};
        {'DOWN', Watch, process, Parent, _} -> exit(Pid, kill), ok
    after LimitMs ->
        exit(Pid, kill),
        {error, {password, timeout}}
    end.

%% Where nobody is asked, a busy machine must not make it look so.
limit(#{password := undefined}, _LimitMs) -> infinity;
limit(_Opts, LimitMs) -> LimitMs.

%% Without a limit: files are read, and nothing interrupts that.
result(Pid, Monitor) ->
    receive
        {Pid, Result} -> Result;
        {'DOWN', Monitor, process, Pid, _} -> {error, {configure, died}}
    end.

configure_here(Parent, {Pool, Opts, Turn}) ->
    Result = case password(Opts) of
                 {ok, Password} ->
                     Parent ! {self(), asked},
                     set(Pool, Opts, Password, Turn);
                 {error, Why} ->
                     {error, {password, Why}}
             end,
    Parent ! {self(), Result}.

%% What is wrong here is not the user's options. A stack, or a reason that is more than a name, could
%% repeat the password among the arguments.
set(Pool, Opts, Password, Turn) ->
    try
        sockpool_nif:tls_configure(Pool, (native(Opts, Password))#{turn => Turn})
    catch
        error:Reason when is_atom(Reason) -> {error, {configure, Reason}};
        Class:_ -> {error, {configure, Class}}
    end.

%% Neither reason nor stack, nor what is no iodata: the password may be in them.
password(#{password := undefined}) ->
    {ok, undefined};
password(#{password := Fun}) ->
    try sockpool_callback:call(Fun, []) of
        Given ->
            try
                {ok, iolist_to_binary(Given)}
            catch
                error:badarg -> {error, not_iodata}
            end
    catch
        error:{badfun, Fun} -> {error, badfun};
        _:_ -> {error, raised}
    end.

native(Opts, Password) ->
    Texts = [cacertfile, server_name, certfile, keyfile, ciphers, ciphersuites, groups, keylog],
    #{versions := Versions, verify := Verify, alpn := Alpn, cacerts := Certs} = Opts,
    maps:merge(maps:map(fun(_Key, undefined) -> undefined;
                           (_Key, Text) -> <<Text/binary, 0>>
                        end, maps:with(Texts, Opts)),
               (maps:with([session_reuse, ktls], Opts))#{
                   cacerts => case Certs of undefined -> []; _ -> Certs end,
                   verify => Verify =:= peer,
                   min_version => hd(Versions),
                   max_version => lists:last(Versions),
                   alpn => << <<(byte_size(Name)), Name/binary>> || Name <- Alpn >>,
                   password => Password}).
