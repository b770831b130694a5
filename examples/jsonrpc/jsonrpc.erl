%%% A client of JSON-RPC 2.0 with a message on each line, as MCP over stdio has it, or Snapcast and electrum over TCP, on a pool of
%%% sockpool. docs/protocols.md says what is to be learned from it.
%%%
%%%     ok = sockpool:start_pool(tools, jsonrpc:options(#{host => "127.0.0.1", port => 1705})).
%%%     {ok, Result} = jsonrpc:call(tools, <<"tools/list">>, #{}).
%%%
%%% An error of the server is `{error, Map}' with `code' and `message', one of the pool is `{error, Reason}' with a term that
%%% is no map. There is no JSON in OTP before 27, and a client is no place to write it: a codec is what encodes and what
%%% decodes, `default_codec/0' or one of yours.
-module(jsonrpc).

-export([options/1, options/2, hello/3, default_codec/0]).
-export([call/3, call/4, batch/3, notify/3]).
-export([ask/4]).
-export_type([codec/0]).

%% Keys of maps are binaries, as is text.
-type codec() :: {Encode :: fun((term()) -> iodata()), Decode :: fun((binary()) -> term())}.
-type params() :: map() | list().
-type error() :: {error, map() | sockpool:reason()}.
%% What to call with what the server says unasked.
-type call_options() :: #{codec => codec(), timeout => timeout(), notified => fun((Method :: binary(), params()) -> term())}.

-define(TIMEOUT_MS, 5000).

%%% The pool.

%% Lines end with a newline; some servers write a return before it, which is white space to JSON.
-spec options(map()) -> sockpool:options().
options(Opts) -> Opts#{packet => line}.

%% With a first call on each new connection, such as MCP's `initialize', and what to say when it is answered.
-spec options(map(), {Method :: binary(), params(), Then :: none | binary()}) -> sockpool:options().
options(Opts, {Method, Params, Then}) -> (options(Opts))#{init => {?MODULE, hello, [{Method, Params, Then}, default_codec()]}}.

-spec hello(sockpool:conn(), {binary(), params(), none | binary()}, codec()) -> ok | error().
hello(Conn, {Method, Params, Then}, Codec) ->
    case ask(Conn, Method, Params, #{codec => Codec}) of
        {ok, _} when Then =:= none -> ok;
        {ok, _} -> sockpool:send(Conn, line(Codec, #{jsonrpc => <<"2.0">>, method => Then}));
        {error, _} = Error -> Error
    end.

%% OTP's from 27 on, otherwise jiffy.
-spec default_codec() -> codec().
-if(?OTP_RELEASE >= 27).
default_codec() -> {fun json:encode/1, fun json:decode/1}.
-else.
default_codec() -> {fun jiffy:encode/1, fun(Text) -> jiffy:decode(Text, [return_maps]) end}.
-endif.

%%% Calls.

-spec call(sockpool:pool(), Method :: binary(), params()) -> {ok, term()} | error().
call(Pool, Method, Params) -> call(Pool, Method, Params, #{}).

%% By a lease: before the answer there may come what the server says unasked.
-spec call(sockpool:pool(), Method :: binary(), params(), call_options()) -> {ok, term()} | error().
call(Pool, Method, Params, Opts) -> leased(Pool, fun(Conn) -> ask(Conn, Method, Params, Opts) end).

%% With a connection that one has already.
-spec ask(sockpool:conn(), Method :: binary(), params(), call_options()) -> {ok, term()} | error().
ask(Conn, Method, Params, Opts) ->
    Id = erlang:unique_integer([positive]),
    case asked(Conn, request(Id, {Method, Params}), fun(Message) -> is_answer(Message, Id) end, Opts) of
        {ok, Answer} -> result(Answer);
        {error, _} = Error -> Error
    end.

%% What has a method is a request of the server's, with numbers of its own.
is_answer(#{<<"id">> := Its} = Message, Id) -> Its =:= Id andalso not is_map_key(<<"method">>, Message);
is_answer(_Other, _Id) -> false.

%% All in one line, and all answers in one line, in any order: given in that of the calls.
-spec batch(sockpool:pool(), [{Method :: binary(), params()}, ...], call_options()) -> {ok, [{ok, term()} | error()]} | error().
batch(Pool, Calls, Opts) ->
    Numbered = [{erlang:unique_integer([positive]), Call} || Call <- Calls],
    Requests = [request(Id, Call) || {Id, Call} <- Numbered],
    leased(Pool, fun(Conn) ->
                         case asked(Conn, Requests, fun is_list/1, Opts) of
                             {ok, Answers} ->
                                 ById = maps:from_list([{Id, Answer} || #{<<"id">> := Id} = Answer <- Answers]),
                                 {ok, [result(map_get(Id, ById)) || {Id, _} <- Numbered]};
                             {error, _} = Error ->
                                 Error
                         end
                 end).

%% Nobody answers.
-spec notify(sockpool:pool(), Method :: binary(), params()) -> ok | error().
notify(Pool, Method, Params) ->
    Notification = #{jsonrpc => <<"2.0">>, method => Method, params => Params},
    leased(Pool, fun(Conn) -> sockpool:send(Conn, line(default_codec(), Notification)) end).

request(Id, {Method, Params}) -> #{jsonrpc => <<"2.0">>, id => Id, method => Method, params => Params}.

result(#{<<"result">> := Result}) -> {ok, Result};
result(#{<<"error">> := Error}) -> {error, Error}.

%% All within one time-out, whatever comes in between.
asked(Conn, Message, IsAnswer, Opts) ->
    Codec = maps:get(codec, Opts, default_codec()),
    Timeout = maps:get(timeout, Opts, ?TIMEOUT_MS),
    case sockpool:send(Conn, line(Codec, Message), Timeout) of
        ok ->
            case sockpool:recv_until(Conn, fun(Line) -> IsAnswer(decoded(Codec, Line)) end, Timeout) of
                {ok, Lines} -> answered([decoded(Codec, Line) || Line <- Lines], Opts);
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

answered([Answer], _Opts) ->
    {ok, Answer};
answered([Before | Rest], Opts) ->
    Notified = maps:get(notified, Opts, fun(_Method, _Params) -> ignored end),
    _ = [Notified(Method, maps:get(<<"params">>, Before, #{})) || #{<<"method">> := Method} <- [Before]],
    answered(Rest, Opts).

%% In JSON there is no end of line but between values.
line({Encode, _Decode}, Message) -> [Encode(Message), $\n].

%% Where it raises, the connection is closed: what is no JSON is no answer either.
decoded({_Encode, Decode}, Line) -> Decode(Line).

leased(Pool, Fun) ->
    case sockpool:execute(Pool, Fun) of
        {ok, Result} -> Result;
        {error, _} = Error -> Error
    end.
