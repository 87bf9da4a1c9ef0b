output "names" {
  description = "The secrets that the gateway has."
  value       = toset(keys(var.files))
  depends_on  = [terraform_data.handed]
}
