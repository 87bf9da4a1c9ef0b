variable "kubeconfig" {
  description = "The kubeconfig whose current context may deploy; role.yaml has the rights that are needed."
  type        = string
}

variable "image" {
  description = "The image that holds all functions, by its tag."
  type        = string
}

variable "keys_folder" {
  description = "Folder of the keys that `skytally keys` makes."
  type        = string
}

variable "secret_files" {
  description = "Other secrets by name, with the file that has the value."
  type        = map(string)
  default     = {}
}

variable "settings" {
  description = "Settings of every function: the stores, and what else the site wants."
  type        = map(string)
}

variable "function_settings" {
  description = "Settings of single functions, by the function's name in paths (panda-collect)."
  type        = map(map(string))
  default     = {}
}

variable "schedules" {
  description = "Other schedules of single timers (cron, UTC); an empty one switches the timer off."
  type        = map(string)
  default     = {}
}

variable "namespace" {
  description = "The namespace of the functions, made where it is not there."
  type        = string
  default     = "skytally"
}

variable "route_gateway" {
  description = "A Gateway (NAMESPACE/NAME) through which functions answer at /function/NAME; empty: each at a host name of its own."
  type        = string
  default     = ""
}

variable "route_host" {
  description = "The host name of those paths; empty: any."
  type        = string
  default     = ""
}

variable "cli" {
  description = "How `skytally` is called."
  type        = string
  default     = "skytally"
}
